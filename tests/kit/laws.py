"""The law of every decision, for random slos, predictions and conditions."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import numpy as np

from router import pipeline
from router.conditions import Conditions, Limit, MonitorState
from router.errors import Infeasible
from router.policy.features import Context
from router.policy.policy import Policy, Predicted, static_policy
from router.policy.tradeoff import Tradeoff
from router.slo import AccuracyScope, OnInfeasible, Slo
from router.types import Bounds, Decision, Predictions, Query, SloStatus
from tests.kit.policies import catalog, predictions

_SAID = ("no arm meets", "beyond reach", "safe arm", "keeps the budget")
NOW = datetime(2026, 11, 22, tzinfo=UTC)
QUERY = Query(text="2 + 2?", input_tokens=5)
CURVE = Tradeoff(
    value_usd=np.array([0.01, 0.1, 1.0]),
    accuracy=np.array([0.5, 0.7, 0.9]),
    cost_usd=np.array([0.001, 0.01, 0.1]),
    best_constant_accuracy=0.7,
)
POLICY = replace(static_policy(catalog()), tradeoff=CURVE, mean_accuracy={"m3:single": 0.8})


def random_predictions(seed: int) -> Predictions:
    """Predictions for 24 arms, some with ties, zeros and latencies that nobody measured."""
    rng = np.random.default_rng(seed)
    arms = len(POLICY.arms)
    accuracy, cost_usd = rng.random(arms), rng.random(arms) ** 3
    latency = rng.exponential(10.0, arms)
    if seed % 3 == 0:
        accuracy, cost_usd = accuracy.round(1), cost_usd.round(1)
    latency[rng.random(arms) < rng.choice([0.0, 0.2, 1.0])] = np.nan
    return predictions(accuracy, cost_usd, latency)


def _novelty(seed: int) -> float | None:
    """That of an ordinary query, for one seed in seven of an unheard-of one."""
    return (0.5, None, 0.3, 0.9, 0.1, 0.6, 0.999)[seed % 7] if seed > 1_000 else None


def decided(seed: int, slo: Slo, conditions: Conditions, policy: Policy = POLICY) -> Decision:
    """The decision for random predictions."""
    context = Context(values=np.empty(0), words=np.empty(0, np.intp), input_tokens=5)
    return pipeline.decide(
        policy,
        QUERY,
        slo,
        Bounds(),
        decision_id=UUID(int=seed),
        now=NOW,
        predicted=Predicted(
            context=context, predictions=random_predictions(seed), novelty=_novelty(seed)
        ),
        conditions=conditions,
    )


def check(seed: int, slo: Slo, conditions: Conditions) -> None:
    """Fails unless the decision obeys every bound or says which it could not meet."""
    try:
        decision = decided(seed, slo, conditions)
    except Infeasible as error:
        _check_refusal(error, slo, conditions)
        return
    choice, arm, predicted = decision.choice, decision.arm, decision.predictions
    table, model = POLICY.table, POLICY.table.models[decision.choice.index]
    assert arm.model not in slo.excluded_models
    assert arm.strategy not in slo.excluded_strategies
    if slo.allowed_regions:
        assert ("eu", "us")[int(model[1]) % 2] in slo.allowed_regions
    if conditions.budget_left_usd is not None:
        assert table.most_usd(5)[choice.index] <= conditions.budget_left_usd
    others = table.available(conditions.backends)
    if choice.feasible.any() and (choice.feasible & others).any():
        assert others[choice.index]
    assert 0 < choice.propensity <= 1
    if choice.slo_status is SloStatus.BEST_EFFORT:
        assert any(word in choice.reason for word in _SAID)
    if choice.feasible.any():
        _check_bounds(choice.index, slo, predicted)
        _check_floor(decision)
    if conditions.promise and conditions.promise.monitor is MonitorState.BROKEN:
        assert choice.explored or slo.accuracy_value_usd or not _average(slo) or _is_safe(decision)
    limits = {reason.limit for reason in choice.reasons}
    assert Limit.LATENCY not in limits or slo.max_latency_s is not None


def _average(slo: Slo) -> bool:
    return slo.has_floor and slo.accuracy_scope is AccuracyScope.AVERAGE


def _is_safe(decision: Decision) -> bool:
    feasible, accuracy = decision.choice.feasible, decision.predictions.accuracy
    if not feasible.any() or decision.arm.key == decision.slo.safe_arm:
        return True
    return bool(accuracy[decision.choice.index] == accuracy[feasible].max())


def _check_bounds(index: int, slo: Slo, predicted: Predictions) -> None:
    assert slo.max_cost_usd is None or predicted.cost_usd[index] <= slo.max_cost_usd
    latency_s = predicted.latency_s(slo.latency_quantile)[index]
    assert slo.max_latency_s is None or latency_s <= slo.max_latency_s
    assert slo.max_energy_wh is None or predicted.energy_wh[index] <= slo.max_energy_wh


def _check_floor(decision: Decision) -> None:
    """A floor on each query is met, but by the safe arm, which says so."""
    slo, index = decision.slo, decision.choice.index
    if slo.min_accuracy is not None and slo.accuracy_scope is AccuracyScope.PER_QUERY:
        least = slo.min_accuracy * (1 - 1e-12)
        met = decision.predictions.accuracy[index] >= least
        assert met or "safe arm" in decision.choice.reason


def _check_refusal(error: Infeasible, slo: Slo, conditions: Conditions) -> None:
    if error.reason == "BUDGET_EXHAUSTED":
        assert conditions.budget_left_usd is not None
    elif "no arm is left by" in error.message:
        assert slo.allowed_regions or slo.excluded_models
    else:
        assert slo.on_infeasible is OnInfeasible.REJECT
