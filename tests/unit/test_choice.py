"""The choice obeys every bound, or says which could not be met."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import Infeasible
from router.policy.choice import choose
from router.policy.exploration import explore
from router.policy.limits import Limits
from router.policy.table import ArmTable
from router.policy.tradeoff import Tradeoff, trace
from router.policy.worth import worth
from router.slo import AccuracyScope, OnInfeasible, Slo
from router.types import Bounds, Capability, Choice, Predictions, Query, SloStatus
from tests.kit.laws import CURVE, QUERY
from tests.kit.policies import catalog, predictions, some_predictions, some_slos, standing

TABLE = ArmTable(catalog())


def decide(predicted: Predictions, slo: Slo, tradeoff: Tradeoff | None = None) -> Choice:
    eligible = TABLE.eligible(QUERY, slo, Bounds())
    aim = worth(slo, tradeoff, None, {"m3:single": 0.8})
    return choose(standing(predicted), eligible, slo, Bounds(), aim)


@settings(max_examples=200, deadline=None)
@given(some_predictions(), st.floats(0.01, 1))
def test_a_per_query_floor_is_met_at_the_least_cost(predicted: Predictions, floor: float) -> None:
    slo = Slo(min_accuracy=floor, accuracy_scope=AccuracyScope.PER_QUERY)
    choice = decide(predicted, slo)
    above = [
        cost
        for cost, accuracy in zip(predicted.cost_usd, predicted.accuracy, strict=True)
        if accuracy >= floor
    ]
    if above:
        assert predicted.cost_usd[choice.index] == min(above)
    else:
        assert choice.slo_status is SloStatus.BEST_EFFORT
        nearest = predicted.accuracy.max()
        assert predicted.accuracy[choice.index] == pytest.approx(nearest, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(some_predictions(), st.floats(0, 1), some_slos())
def test_logged_propensities_are_those_of_the_draws(
    predicted: Predictions, rate: float, slo: Slo
) -> None:
    slo = replace(slo, allowed_regions=(), on_infeasible=OnInfeasible.BEST_EFFORT)
    greedy = decide(predicted, slo, CURVE)
    draws = (np.arange(1_000) + 0.5) / 1_000
    explored = [explore(greedy, rate, float(draw)) for draw in draws]
    shares = np.bincount([choice.index for choice in explored], minlength=24) / len(draws)
    for choice in explored:
        assert choice.propensity == pytest.approx(shares[choice.index], abs=8e-3)
        assert choice.index == greedy.index or greedy.feasible[choice.index]


def test_reject_fails_with_what_could_not_be_met() -> None:
    predicted = predictions(np.full(24, 0.5), np.full(24, 0.1), np.full(24, 1.0))
    slo = Slo(max_cost_usd=0.01, on_infeasible=OnInfeasible.REJECT)
    with pytest.raises(Infeasible, match=r"cost 0\.01 USD"):
        decide(predicted, slo)


def test_cheapest_takes_the_cheapest_when_nothing_is_feasible() -> None:
    predicted = predictions(np.full(24, 0.5), np.linspace(0.9, 0.1, 24), np.full(24, 1.0))
    choice = decide(predicted, Slo(max_cost_usd=0.01, on_infeasible=OnInfeasible.CHEAPEST))
    assert choice.index == 23
    assert choice.slo_status is SloStatus.BEST_EFFORT
    assert choice.propensity == 1.0


def test_an_arm_without_measured_latency_meets_no_latency_bound() -> None:
    predicted = predictions(np.full(24, 0.5), np.full(24, 0.1), np.full(24, np.nan))
    limits = Limits.of(Slo(max_latency_s=10), Bounds(), per_query=True)
    assert (limits.excess(predicted) > 0).all()


def test_an_average_floor_takes_the_smallest_value_that_reaches_it() -> None:
    assert CURVE.value_for(0.6) == (0.1, True)
    assert CURVE.value_for(0.9) == (1.0, True)
    assert CURVE.value_for(0.95) == (1.0, False)


def test_an_average_floor_beyond_reach_is_best_effort_or_rejected() -> None:
    predicted = predictions(np.full(24, 0.5), np.full(24, 0.1), np.full(24, 1.0))
    choice = decide(predicted, Slo(min_accuracy=0.99), CURVE)
    assert choice.slo_status is SloStatus.BEST_EFFORT
    assert "beyond reach" in choice.reason
    with pytest.raises(Infeasible, match="beyond reach"):
        decide(predicted, Slo(min_accuracy=0.99, on_infeasible=OnInfeasible.REJECT), CURVE)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.3, 0.9))
def test_the_curve_meets_its_floor_on_the_predictions_it_was_traced_on(
    seed: int, floor: float
) -> None:
    rng = np.random.default_rng(seed)
    accuracy, cost_usd = rng.random((200, 5)), rng.random((200, 5)) * [1, 2, 3, 4, 5]
    value, met = trace(accuracy, cost_usd).value_for(floor)
    chosen = (value * accuracy - cost_usd).argmax(axis=1)
    assert not met or accuracy[np.arange(200), chosen].mean() >= floor


@pytest.mark.parametrize(
    ("query", "bounds", "named"),
    [
        (Query(text="x", needs_context_tokens=10**6), Bounds(), "context length"),
        (Query(text="x"), Bounds(allowed_arms=frozenset({"none"})), "allowed_arms"),
        (
            Query(text="x"),
            Bounds(excluded_arms=frozenset(TABLE.keys)),
            "excluded_arms",
        ),
    ],
)
def test_what_leaves_no_arm_is_named(query: Query, bounds: Bounds, named: str) -> None:
    with pytest.raises(Infeasible, match=named):
        TABLE.eligible(query, Slo(), bounds)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 100), st.integers(1, 100))
def test_a_larger_compute_budget_never_takes_an_arm_away(one: int, other: int) -> None:
    low, high = sorted((one, other))
    small = TABLE.eligible(QUERY, Slo(), Bounds(compute_budget=low))
    large = TABLE.eligible(QUERY, Slo(), Bounds(compute_budget=high))
    assert (large | ~small).all()
    assert (TABLE.compute[small] <= low).all()


def test_a_needed_capability_leaves_only_models_that_have_it() -> None:
    needs = Query(text="x", needs=frozenset({Capability.TOOLS}))
    eligible = TABLE.eligible(needs, Slo(), Bounds())
    assert {arm.model for arm, left in zip(TABLE.arms, eligible, strict=True) if left} == {
        "m1",
        "m2",
        "m3",
    }
