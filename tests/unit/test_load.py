"""Latency under load: queues delay first tokens, slow writing all that follows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.conditions import Backend, Conditions
from router.policy.load import first_tokens, load_of, loaded, loaded_median_s, usual_median_s
from router.policy.table import ArmTable
from router.slo import LATENCY_QUANTILES
from router.types import Arm, Catalog, Floats, Model
from tests.kit.policies import predictions

SINGLE = Arm(model="m0", strategy="single")
SAMPLED = Arm(model="m0", strategy="self_consistency", params={"samples": 5})
REFINED = Arm(model="m0", strategy="refinement", params={"rounds": 3})
TREE = Arm(model="m0", strategy="tree_of_thoughts", params={"depth": 2, "width": 4})
ARMS = (SINGLE, SAMPLED, REFINED, TREE)

MODEL = Model(name="m0", input_usd_per_mtok=1.0, output_usd_per_mtok=1.0)

seconds = st.floats(1e-3, 1e3)
backends = st.builds(
    Backend,
    slowdown=st.floats(0.5, 32.0),
    first_token_s=seconds,
    usual_first_token_s=seconds,
    first_token_spread=st.floats(0.0, 1.5),
)


@given(backends, seconds, st.floats(1.0, 50.0))
def test_the_usual_median_is_found_again_from_that_under_load(
    backend: Backend, usual_s: float, firsts: float
) -> None:
    found = usual_median_s(loaded_median_s(usual_s, firsts, backend), firsts, backend)
    assert found == pytest.approx(usual_s, rel=1e-6)


def quantiles_s(arms: tuple[Arm, ...], usual_s: Floats, backend: Backend) -> Floats:
    """Those of some arms of one model under its load, (3, a)."""
    table = ArmTable(Catalog(models=(MODEL,), arms=arms))
    return load_of(table, (("m0", backend),)).on(usual_s)


@given(backends, st.lists(seconds, min_size=3, max_size=3), st.sampled_from(ARMS))
def test_quantiles_under_load_rise_and_are_never_less_than_the_pace_makes_them(
    backend: Backend, usual: list[float], arm: Arm
) -> None:
    usual_s = np.sort(usual)[:, None]
    found, pace = quantiles_s((arm,), usual_s, backend), backend.slowdown
    firsts = first_tokens(arm, backend.first_token_spread)[0]
    assert (np.diff(found, axis=0) >= 0.0).all()
    assert (found >= min(pace, 1.0) * usual_s * (1.0 - 1e-9)).all()
    assert found[0] == pytest.approx(loaded_median_s(usual_s[0, 0], firsts, backend))


def simulated(arm_shape: tuple[int, int], spread: float) -> Floats:
    """Quantiles of the first tokens of rounds in turn of passes side by side."""
    rng = np.random.default_rng(0)
    rounds, passes = arm_shape
    common, own = rng.normal(size=(40_000, 1, 1)), rng.normal(size=(40_000, rounds, passes))
    alike = 0.5 if rounds > 1 else 0.0
    score = np.sqrt(alike) * common + np.sqrt(1.0 - alike) * own
    took = np.exp(spread * score).max(axis=2).sum(axis=1)
    return np.asarray(np.quantile(took, LATENCY_QUANTILES))


@pytest.mark.parametrize(
    ("arm", "arm_shape"), [(SINGLE, (1, 1)), (SAMPLED, (1, 5)), (REFINED, (3, 1))]
)
def test_first_tokens_of_samples_are_the_slowest_and_those_of_rounds_add_up(
    arm: Arm, arm_shape: tuple[int, int]
) -> None:
    assert first_tokens(arm, 0.4) == pytest.approx(simulated(arm_shape, 0.4), rel=0.06)


def test_a_queue_takes_the_same_from_long_and_short_answers_and_slow_writing_does_not() -> None:
    usual_s = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    arms = SINGLE, Arm(model="m0", strategy="chain_of_thought")
    queue = Backend(first_token_s=2.5, usual_first_token_s=0.5)
    assert quantiles_s(arms, usual_s, queue)[0] == pytest.approx([3.0, 12.0])
    slow = Backend(slowdown=3.0, first_token_s=0.5, usual_first_token_s=0.5)
    assert quantiles_s(arms, usual_s, slow)[0] == pytest.approx([2.0, 29.0])


def test_rounds_wait_in_a_queue_each_time_and_samples_for_the_slowest() -> None:
    usual_s = np.full((3, 4), 10.0)
    queue = Backend(first_token_s=2.5, usual_first_token_s=0.5, first_token_spread=0.5)
    single, sampled, refined, tree = quantiles_s(ARMS, usual_s, queue)[0] - 10.0
    assert single == pytest.approx(2.0)
    assert 2.0 * 1.5 < sampled < 2.0 * 2.5
    assert refined == pytest.approx(3 * 2.0, rel=0.1)
    assert tree == pytest.approx(2 * sampled, rel=0.15)


def test_a_wide_queue_widens_the_quantiles_beyond_the_median() -> None:
    usual_s = np.array([[1.0], [1.5], [2.0]])
    queue = Backend(first_token_s=3.0, usual_first_token_s=0.3, first_token_spread=0.8)
    found = quantiles_s((SINGLE,), usual_s, queue)[:, 0]
    rng = np.random.default_rng(1)
    usual = np.exp(rng.normal(0.0, np.log(1.5) / 1.645, 40_000))
    drawn = usual - 0.3 + 3.0 * np.exp(0.8 * rng.normal(size=40_000))
    assert found == pytest.approx(np.quantile(drawn, LATENCY_QUANTILES), rel=0.15)


def test_models_that_are_not_named_and_latencies_never_measured_stay() -> None:
    models = MODEL, replace(MODEL, name="m1")
    other = Arm(model="m1", strategy="single")
    table = ArmTable(Catalog(models=models, arms=(*ARMS, other)))
    usual = predictions(np.full(5, 0.5), np.full(5, 1e-4), np.array([1, 2, np.nan, 4, 5.0]))
    for backend in (
        Backend(slowdown=2.0),
        Backend(slowdown=2.0, first_token_s=1.0, usual_first_token_s=0.5, first_token_spread=0.3),
    ):
        found = loaded(usual, table, {"m0": backend, "gone": backend})
        assert found.latency_p95_s[4] == usual.latency_p95_s[4]
        assert np.isnan(found.latency_p50_s[2])
        assert (found.latency_p50_s[[0, 1, 3]] > usual.latency_p50_s[[0, 1, 3]]).all()


def test_a_load_is_read_from_the_log_as_it_was_written_and_older_rows_have_none() -> None:
    backend = Backend(slowdown=2.0, first_token_s=1.5, usual_first_token_s=0.25)
    conditions = Conditions(backends={"m0": backend})
    assert Conditions.from_mapping(conditions.to_mapping()) == conditions
    older = {"backends": {"m0": {"slowdown": 2.0, "available": True}}}
    assert Conditions.from_mapping(older).backends["m0"] == replace(
        backend, first_token_s=0.0, usual_first_token_s=0.0
    )
