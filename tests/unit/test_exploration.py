"""Directed exploration keeps to its share of the cost, and its propensities are exact."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router import pipeline
from router.conditions import PLAIN, Conditions, Promise
from router.errors import Infeasible
from router.policy.exploration import EVEN, Around, explore, exploring, probabilities
from router.serving.mean_costs import MeanCosts
from router.slo import OnInfeasible, Slo
from router.types import Bounds, Choice, Decision, Floats, Predictions, Query, SloStatus
from tests.kit import logs
from tests.kit.bound import bound
from tests.kit.embedding import embedder
from tests.kit.laws import POLICY, decided
from tests.kit.policies import predictions, some_conditions, some_predictions, some_slos, standing
from training.learning import decided as deciding
from training.learning.policy import learn

NOW, TENANT = datetime(2026, 1, 1, tzinfo=UTC), UUID(int=7)
CURIOUS = Slo(accuracy_value_usd=0.5, exploration_rate=0.4, exploration_cost_share=0.02)
VALUES = st.none() | st.floats(1e-6, 1e3)
MASKS = st.lists(st.booleans(), min_size=24, max_size=24).map(np.array).filter(np.any)


def greedy(feasible: Floats, place: int = 0) -> Choice:
    """A choice of the feasible arm at a place among those."""
    return Choice(
        index=int(np.flatnonzero(feasible)[place]),
        feasible=feasible.astype(bool),
        propensity=1.0,
        explored=False,
        slo_status=SloStatus.MET,
        reason="",
    )


def five(accuracy: list[float], cost_usd: list[float]) -> Predictions:
    return predictions(np.array(accuracy), np.array(cost_usd), np.ones(len(accuracy)))


@settings(max_examples=100, deadline=None)
@given(some_predictions(), MASKS, VALUES, st.floats(0.0, 1.0), st.none() | st.floats(0.0, 1.0))
def test_probabilities_sum_to_one_and_no_feasible_arm_is_left_out(
    predicted: Predictions,
    feasible: Floats,
    value_usd: float | None,
    share: float,
    usual_usd: float | None,
) -> None:
    slo = replace(CURIOUS, exploration_cost_share=share)
    choice = greedy(feasible)
    how = exploring(choice, standing(predicted), slo, value_usd, usual_usd)
    found = probabilities(choice, how.rate, how.odds)
    assert found.sum() == pytest.approx(1.0, abs=1e-12)
    assert (found >= 0.0).all()
    assert not found[~choice.feasible].any()
    assert how.rate <= slo.exploration_rate
    others = int(feasible.sum()) - 1
    assert (found[choice.feasible] >= how.rate * EVEN / max(others, 1) * (1 - 1e-9)).all()
    dearer = np.maximum(predicted.cost_usd - predicted.cost_usd[choice.index], 0.0)
    usual = predicted.cost_usd[choice.index] if usual_usd is None else usual_usd
    assert found @ dearer <= share * usual * (1 + 1e-9) + 1e-15


@settings(max_examples=50, deadline=None)
@given(some_predictions(), MASKS, VALUES)
def test_what_is_logged_is_the_frequency_of_the_draws(
    predicted: Predictions, feasible: Floats, value_usd: float | None
) -> None:
    choice = greedy(feasible)
    how = exploring(choice, standing(predicted), CURIOUS, value_usd, 1.0)
    found = probabilities(choice, how.rate, how.odds)
    drawn = [explore(choice, how.rate, draw, how.odds) for draw in (np.arange(1_000) + 0.5) / 1_000]
    shares = np.bincount([each.index for each in drawn], minlength=24) / len(drawn)
    assert np.abs(shares - found).max() <= 2e-3
    for each in drawn:
        assert each.propensity == pytest.approx(found[each.index], abs=1e-12)
        assert each.explored == (each.index != choice.index)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), some_slos(), some_conditions(), st.none() | st.floats(0.0, 1.0))
def test_every_decision_logs_the_chance_that_its_law_gives_the_arm(
    seed: int, slo: Slo, conditions: Conditions, usual_usd: float | None
) -> None:
    conditions = replace(conditions, mean_cost_usd=usual_usd, budget_left_usd=None)
    slo = replace(slo, on_infeasible=OnInfeasible.BEST_EFFORT)
    try:
        plain = decided(seed, replace(slo, exploration_rate=0.0), conditions)
    except Infeasible:
        return
    chances = pipeline.chances(POLICY, plain, slo, Bounds())
    found = decided(seed, slo, conditions)
    assert found.choice.propensity == pytest.approx(chances[found.choice.index], abs=1e-12)
    assert chances.sum() == pytest.approx(1.0, abs=1e-12)


def test_without_a_rate_or_a_share_nothing_changes() -> None:
    for seed in range(20):
        plain = decided(seed, Slo(), PLAIN)
        same = decided(seed, Slo(exploration_cost_share=0.5), PLAIN)
        assert same.choice.propensity == plain.choice.propensity == 1.0
        assert same.choice.index == plain.choice.index
        how = exploring(plain.choice, standing(plain.predictions), Slo(exploration_rate=0.3), 1.0)
        assert (how.rate, how.odds) == (0.3, None)


def test_odds_rise_with_what_an_arm_promises_and_fall_with_its_price() -> None:
    base = five([0.6, 0.5, 0.5, 0.5], [1.0, 1.0, 2.0, 4.0])
    choice = greedy(np.ones(4))
    odds = Around.of(choice, standing(base)).odds(10.0)[0]
    assert odds[0] == 0.0
    assert odds[1] > odds[2] > odds[3] > 0.0
    better = replace(base, accuracy=np.array([0.6, 0.5, 0.5, 0.9]))
    assert Around.of(choice, standing(better)).odds(10.0)[0, 3] > odds[3]
    doubtful = replace(base, accuracy_high=np.array([0.65, 0.55, 0.55, 1.0]))
    assert Around.of(choice, standing(doubtful)).odds(10.0)[0, 3] > odds[3]


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.floats(0.0, 9.0), st.floats(0.0, 9.0))
def test_a_greater_share_or_mean_cost_never_explores_less(
    one: float, other: float, usual_usd: float, more_usd: float
) -> None:
    around = Around.of(greedy(np.ones(3)), standing(five([0.6, 0.5, 0.9], [1.0, 0.5, 8.0])))
    odds = around.odds(10.0)
    low, high = sorted((one, other))
    less, more = (replace(CURIOUS, exploration_cost_share=share) for share in (low, high))
    assert around.rate(odds, less, usual_usd)[0] <= around.rate(odds, more, usual_usd)[0]
    dearer = around.rate(odds, more, usual_usd + more_usd)[0]
    assert around.rate(odds, more, usual_usd)[0] <= dearer <= CURIOUS.exploration_rate


def test_arms_that_cost_nothing_are_explored_at_the_slos_rate() -> None:
    predicted = five([0.6, 0.5, 0.9], [0.0, 0.0, 0.0])
    how = exploring(greedy(np.ones(3)), standing(predicted), CURIOUS, 1.0)
    assert how.rate == CURIOUS.exploration_rate
    alone = exploring(greedy(np.array([0, 1, 0])), standing(predicted), CURIOUS, 1.0)
    assert alone.rate == 0.0


def test_certificates_know_the_chances_that_serving_gives_each_arm() -> None:
    policy = bound(learn(logs.simulated(300, seed=1).dataset, embedder=embedder()))
    texts = logs.simulated(40, seed=9).texts
    slo = Slo(min_accuracy=0.52, exploration_rate=0.5, exploration_cost_share=0.1)
    assert policy.tradeoff is not None
    values = policy.tradeoff.value_usd
    made = deciding.decided(policy, texts, slo, values)
    arms, every = len(policy.arms), np.arange(len(texts))
    chances = np.stack([made.chance(every, np.full_like(every, arm)) for arm in range(arms)])
    assert chances.sum(axis=0) == pytest.approx(1.0)
    for column in (0, 30, 59):
        usual = float(made.cost_usd[every, made.arms[:, column]].mean())
        conditions = Conditions(
            promise=Promise(certificate_id="c", value_usd=float(values[column])),
            mean_cost_usd=usual,
        )
        for place in every.tolist():
            plain = pipeline.decide(
                policy,
                Query(text=texts[place]),
                replace(slo, exploration_rate=0.0),
                Bounds(),
                decision_id=UUID(int=place),
                now=NOW,
                conditions=conditions,
            )
            expected = pipeline.chances(policy, plain, slo, Bounds())
            assert chances[:, place, column] == pytest.approx(expected, abs=1e-12)
        score = np.random.default_rng(0).random((len(texts), arms))
        weighed = (chances[:, :, column].T * score).sum(axis=1)
        assert made.mean(score)[:, column] == pytest.approx(weighed)


def at(seed: int, usual_usd: float | None, scale: float = 1.0) -> Decision:
    """A decision whose arms cost `scale` times as much as usual."""
    rng = np.random.default_rng(seed)
    accuracy, cost_usd = rng.random(24), scale * rng.lognormal(-7.0, 1.0, 24)
    choice = greedy(np.ones(24), int((0.01 * accuracy - cost_usd).argmax()))
    predicted = predictions(accuracy, cost_usd, np.ones(24))
    how = exploring(choice, standing(predicted), CURIOUS, 0.01, usual_usd)
    plain = decided(seed, CURIOUS, PLAIN)
    made = explore(choice, how.rate, float(rng.random()), how.odds)
    return replace(plain, predictions=predicted, choice=made)


def test_a_worker_keeps_to_the_share_of_what_the_slos_decisions_cost() -> None:
    known, added, paid = MeanCosts(), 0.0, 0.0
    for seed in range(1_000):
        usual = known.now(TENANT, CURIOUS, POLICY.version)
        decision = at(seed, usual, scale=1.0 if seed < 600 else 0.5)
        known.decided(TENANT, decision)
        predicted = decision.predictions
        index = int((0.01 * predicted.accuracy - predicted.cost_usd).argmax())
        choice = greedy(np.ones(24), index)
        how = exploring(choice, standing(predicted), CURIOUS, 0.01, usual)
        dearer = np.maximum(predicted.cost_usd - predicted.cost_usd[index], 0.0)
        added += float(probabilities(choice, how.rate, how.odds) @ dearer)
        paid += float(predicted.cost_usd[index])
    assert 0.5 * 0.02 * paid <= added <= 1.1 * 0.02 * paid


def test_mean_costs_are_told_once_known_and_begin_anew_with_a_version() -> None:
    known = MeanCosts()
    for seed in range(80):
        known.decided(TENANT, at(seed, None))
    told = known.now(TENANT, CURIOUS, POLICY.version)
    assert told is not None
    greedy_usd = [at(seed, None).predictions.cost_usd for seed in range(80)]
    assert told <= float(np.mean([each.mean() for each in greedy_usd]))
    assert known.now(TENANT, replace(CURIOUS, version=3), POLICY.version) is None
    assert known.now(TENANT, CURIOUS, POLICY.version + 1) is None
    assert known.now(UUID(int=8), CURIOUS, POLICY.version) is None
