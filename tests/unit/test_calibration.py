"""Calibration bound to arms: more compute never predicts less, unknown arms have the common one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from router.policy.arms import chains, compute
from router.policy.calibration import UNKNOWN, Calibration
from router.types import Arm, Floats
from tests.kit.policies import catalog

ARMS = catalog().arms


def calibration(arms: int, offset: Floats | None = None) -> Calibration:
    return Calibration(
        slope=np.array(1.0),
        offset=np.zeros(arms) if offset is None else offset,
        level=np.array([0.0, 1.0]),
        below=np.array([0.1, 0.1]),
        above=np.array([0.1, 0.1]),
        doubt=np.zeros(arms),
    )


def test_chains_hold_arms_that_differ_in_compute_alone_weakest_first() -> None:
    for row in chains(ARMS):
        arms = [ARMS[place] for place in row]
        assert len({(arm.model, arm.strategy) for arm in arms}) == 1
        spent = [compute(arm) for arm in arms]
        assert spent == sorted(spent)
    other = [
        Arm(model="m", strategy="self_consistency", params={"samples": samples, "style": style})
        for samples in (1, 5)
        for style in ("concise", "standard")
    ]
    assert chains(other).tolist() == [[0, 2], [1, 3]]
    assert chains(other[:1]).shape == (0, 1)


@given(arrays(np.float64, (3, len(ARMS)), elements=st.floats(-20, 20)))
def test_more_compute_of_the_same_strategy_never_predicts_less(raw: Floats) -> None:
    bound = calibration(len(ARMS)).bind({arm.key: place for place, arm in enumerate(ARMS)}, ARMS)
    accuracy, low, high = bound(raw)
    assert (np.diff(accuracy[:, bound.chains], axis=2) >= -1e-12).all()
    assert ((low <= accuracy) & (accuracy <= high)).all()
    alone = np.setdiff1d(np.arange(len(ARMS)), bound.chains)
    expected = 1.0 / (1.0 + np.exp(-raw[:, alone]))
    assert np.allclose(accuracy[:, alone], expected)


def test_an_arm_that_was_not_trained_on_is_as_common_and_less_certain() -> None:
    known, new = (Arm(model=name, strategy="single") for name in ("known", "new"))
    bound = calibration(1, np.array([0.7])).bind({known.key: 0}, [known, new])
    assert bound.offset.tolist() == [0.7, 0.7]
    assert bound.doubt.tolist() == [0.0, UNKNOWN]
