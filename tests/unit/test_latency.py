"""Latency of arms that were never measured, held against simulated passes and rounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.special import ndtri

from router.policy.latency import Shape, quantiles_of, shape
from router.policy.spending import LATENCY, SPREAD, SpendingPredictor, prior_arrays
from router.slo import LATENCY_QUANTILES
from router.types import Arm, Catalog, Floats, Model

SPREAD_OF_ONE = 0.4
ONE_PASS: Floats = SPREAD_OF_ONE * ndtri(np.array(LATENCY_QUANTILES))
MODEL = Model(name="m", input_usd_per_mtok=1.0, output_usd_per_mtok=1.0)
SINGLE = Arm(model="m", strategy="single")
SAMPLED = Arm(model="m", strategy="self_consistency", params={"samples": 5, "base": "single"})
REFINED = Arm(model="m", strategy="refinement", params={"rounds": 3})
TREE = Arm(model="m", strategy="tree_of_thoughts", params={"depth": 2, "width": 4})
ARMS = (SINGLE, SAMPLED, REFINED, TREE)


def simulated(shaped: Shape, alike: float) -> Floats:
    """Quantiles of log latency over draws whose rounds correlate so much."""
    rng, draws = np.random.default_rng(0), 40_000
    rounds, passes = int(shaped.rounds), int(shaped.passes)
    common = rng.normal(size=(draws, 1, 1))
    own = rng.normal(size=(draws, rounds, passes))
    score = np.sqrt(alike) * common + np.sqrt(1.0 - alike) * own
    latency = shaped.length * np.exp(SPREAD_OF_ONE * score)
    return np.asarray(np.quantile(np.log(latency.max(axis=2).sum(axis=1)), LATENCY_QUANTILES))


@pytest.mark.parametrize("passes", [2, 5, 10, 40])
def test_samples_side_by_side_take_as_long_as_the_slowest(passes: int) -> None:
    shaped = Shape(passes=passes)
    assert quantiles_of(shaped, ONE_PASS) == pytest.approx(simulated(shaped, 0.0), abs=0.04)


@pytest.mark.parametrize("rounds", [2, 3, 6])
def test_rounds_in_turn_take_as_long_as_their_sum(rounds: int) -> None:
    shaped = Shape(rounds=rounds, length=4.0)
    assert quantiles_of(shaped, ONE_PASS) == pytest.approx(simulated(shaped, 0.5), abs=0.05)


def test_shapes_follow_the_strategies() -> None:
    assert shape(SINGLE) == Shape()
    assert shape(SAMPLED) == Shape(passes=5.0)
    assert shape(REFINED) == Shape(rounds=3.0, length=4.0)
    assert shape(TREE) == Shape(rounds=2.0, passes=4.0)
    thought = Arm(model="m", strategy="chain_of_thought", params={"tokens": 1024})
    assert shape(thought) == Shape(length=4.0)


@given(
    st.sampled_from(["self_consistency", "refinement", "tree_of_thoughts", "dynamic", "own"]),
    st.dictionaries(
        st.sampled_from(["samples", "rounds", "depth", "width", "tokens"]),
        st.one_of(st.booleans(), st.just("x"), st.floats(-1e6, 1e6)),
    ),
)
@example("self_consistency", {"tokens": 1e-303, "samples": 1e-303})
def test_any_arm_has_rising_finite_quantiles(strategy: str, params: dict[str, float]) -> None:
    arm = Arm(model="m", strategy=strategy, params=params)
    found = quantiles_of(shape(arm), np.log([1.0, 2.0, 3.0]))
    assert np.isfinite(found).all()
    assert (np.diff(found) >= 0.0).all()


def predicted(trained: tuple[Arm, ...], unmeasured: tuple[Arm, ...]) -> Floats:
    """Latency quantiles (3, a) of ARMS; a single pass takes a second, twice that where x is 1."""
    arrays = prior_arrays(trained, [MODEL] * len(trained), 1)
    for place, arm in enumerate(trained):
        arrays.weights[place, LATENCY] = [0.0, np.log(2.0)]
        arrays.weights[place, SPREAD] = 0.0
        arrays.latency_quantiles[place] = ONE_PASS
        if arm in unmeasured:
            arrays.weights[place, LATENCY] = np.nan
    catalog = Catalog(models=(MODEL,), arms=ARMS)
    predictor = SpendingPredictor(arrays=arrays, trained_arms=trained, catalog=catalog)
    return np.asarray(predictor.predict(np.array([[1.0]]), np.array([10.0])).latency_s[0])


@pytest.mark.parametrize(
    ("trained", "unmeasured"), [((SINGLE,), ()), (ARMS, ARMS[1:])], ids=["new", "never measured"]
)
def test_an_arm_that_was_never_measured_takes_after_a_pass_of_its_model(
    trained: tuple[Arm, ...], unmeasured: tuple[Arm, ...]
) -> None:
    found = predicted(trained, unmeasured)
    for place, arm in enumerate(ARMS):
        latency_s = 2.0 * np.exp(quantiles_of(shape(arm), ONE_PASS))
        assert found[:, place] == pytest.approx(latency_s, rel=1e-6)


def test_what_was_measured_stays_and_without_any_pass_there_is_nothing_to_go_by() -> None:
    measured = predicted(ARMS, ())
    assert measured == pytest.approx(np.tile(2.0 * np.exp(ONE_PASS), (4, 1)).T)
    unknown = predicted((SAMPLED, REFINED), (REFINED,))
    assert np.isnan(unknown[:, 2]).all()
