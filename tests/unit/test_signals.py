"""Signals: the same one by one or together, nothing of another fold in them, words hashed once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from router.policy.signals import SIGNALS, SignalArrays, Signals
from router.policy.words import BUCKETS, words
from router.types import Arm, Floats
from tests.kit import logs
from tests.kit.embedding import encoded
from training.learning.contexts import Contexts, Projection
from training.learning.signals import SignalModel
from training.log.dataset import Dataset


def learnt(dataset: Dataset) -> tuple[SignalModel, Contexts]:
    found = encoded(dataset)
    contexts = Projection().fit(found, np.unique(dataset.rows.query)).transform(found)
    return SignalModel(arms=len(dataset.arms), seed=0).fit(contexts, dataset.rows), contexts


def test_signals_read_together_equal_those_read_one_by_one() -> None:
    model, contexts = learnt(logs.simulated(120).dataset)
    together = model.signals(contexts)
    for place in (0, 7, 119):
        assert np.array_equal(model.signals(contexts.take(np.array([place])))[0], together[place])


def test_signals_know_which_queries_are_hard_and_which_arms_are_strong() -> None:
    made = logs.simulated(600)
    model, contexts = learnt(made.dataset)
    found = 1.0 / (1.0 + np.exp(-model.signals(contexts)))
    score = made.dataset.table("score")
    for place, name in enumerate(SIGNALS):
        if not name.endswith("_shared"):
            assert np.corrcoef(found[:, :, place].ravel(), score.ravel())[0, 1] > 0.4, name


def test_a_large_log_is_summed_up_in_as_many_landmarks_and_loses_no_row() -> None:
    dataset = logs.simulated(900).dataset
    model, _ = learnt(dataset)
    arrays = model.arrays_
    assert len(arrays.landmarks) <= 512 < len(dataset.queries)
    assert arrays.counts.sum(axis=0) == pytest.approx(np.full(3, len(dataset.queries)))


def test_neighbours_are_a_kernel_weighted_rate_shrunk_to_what_is_shared() -> None:
    arrays = _arrays(landmarks=np.array([[0.0], [1.0]]))
    value = np.array([[0.25]])
    near = np.exp(-((value - arrays.landmarks.T) ** 2) / 0.5) ** 2
    sums, counts = near @ arrays.sums, near @ arrays.counts
    shared = sums.sum() / (counts.sum() + 2 * 3.0 / 2)
    expected = 0.5 + (sums + 3.0 * shared) / (counts + 3.0)
    place = SIGNALS.index("signal_neighbours")
    found = Signals(arrays)(value, [np.empty(0, np.intp)])[0, :, place]
    assert 1 / (1 + np.exp(-found)) == pytest.approx(expected[0])


def _arrays(landmarks: Floats) -> SignalArrays:
    arms, signals = 2, len(SIGNALS)
    return SignalArrays(
        center=np.zeros(1),
        scale=np.ones(1),
        limit=np.full(1, np.inf),
        landmarks=landmarks,
        bandwidth=np.array(0.5),
        mean=np.array(0.5),
        base=np.full(arms, 0.5),
        kernel=np.zeros((len(landmarks), 1 + arms)),
        probe=np.zeros((2, 1 + arms)),
        words=np.zeros((BUCKETS, 1 + arms)),
        rarity=np.ones(BUCKETS),
        sums=np.array([[2.0, -1.0], [1.0, 0.5]]),
        counts=np.array([[4.0, 4.0], [3.0, 1.0]]),
        shrinkage=np.array(3.0),
        weights=np.full(signals, 1 / signals),
        intercepts=np.zeros(arms),
    )


def test_the_kernel_signal_is_kernel_ridge_regression() -> None:
    """With one arm and a landmark per query, against scikit-learn's ridge on the same columns."""
    dataset = logs.dataset([each for each in logs.simulated(60).rows if each["model"] == "small"])
    model, contexts = learnt(dataset)
    arrays = model.arrays_
    near = model.signals_.nearness(model.signals_.place(contexts.values))
    lengths = ((arrays.landmarks[:, None] - arrays.landmarks) ** 2).sum(axis=2)
    inner = np.exp(-lengths / arrays.bandwidth)
    root = np.linalg.cholesky(4.0 * inner + 2e-6 * np.eye(len(inner)))
    above = dataset.table("score")[:, 0] - arrays.base[0]
    columns = np.linalg.solve(root, near.T).T
    ridge = Ridge(alpha=1.0, fit_intercept=False).fit(columns, above)
    assert near @ arrays.kernel[:, 0] == pytest.approx(ridge.predict(columns), abs=1e-3)


def test_an_arm_that_was_not_trained_on_has_its_base_and_what_is_shared() -> None:
    arrays = _arrays(landmarks=np.array([[0.0], [1.0]]))
    arms = [Arm(model=name, strategy="single") for name in ("a", "b", "new")]
    bound = arrays.bind({arms[0].key: 0, arms[1].key: 1}, arms, np.array([0.0, 0.0, 0.9]))
    assert bound.base.tolist() == [0.5, 0.5, 0.9]
    assert bound.counts[:, 2].tolist() == [0.0, 0.0]
    assert bound.kernel.shape == (2, 4)


@given(st.lists(st.integers(0, 2**31), max_size=60))
def test_words_rise_stay_in_their_range_and_hold_every_token(tokens: list[int]) -> None:
    found = words(np.array(tokens, np.int64))
    assert (np.diff(found) > 0).all()
    assert ((found >= 0) & (found < BUCKETS)).all()
    assert {token % BUCKETS for token in tokens} <= set(found.tolist())
    assert len(found) <= max(2 * len(tokens) - 1, 0)
