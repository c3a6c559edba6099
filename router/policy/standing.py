"""How one query's arms stand under the conditions: what is expected now, and what it counts for."""

from __future__ import annotations

from dataclasses import dataclass, replace

from router.conditions import Conditions
from router.errors import Infeasible
from router.policy.table import ArmTable
from router.slo import Slo
from router.types import Decision, Floats, Mask, Predictions

_KG = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is expected of each arm now, all arrays (a,).

    `weighed_usd` is what its cost counts for when arms are ranked: paced by the budget, with
    the price of its emissions. `affordable` are those that the budget covers whatever they
    come to cost; None where there is no budget.
    """

    predictions: Predictions
    weighed_usd: Floats
    affordable: Mask | None = None


def stand(
    table: ArmTable, predictions: Predictions, slo: Slo, conditions: Conditions, input_tokens: int
) -> Standing:
    """The standing of a query's arms. Raises Infeasible when the budget is used up."""
    if conditions.backends:
        predictions = _slowed(predictions, table.slowdown(conditions.backends))
    weighed = predictions.cost_usd
    if conditions.cost_multiplier != 1.0:
        weighed = weighed * conditions.cost_multiplier
    if slo.usd_per_kgco2e:
        emitted_kg = predictions.energy_wh * table.gco2e_per_wh * _KG
        weighed = weighed + slo.usd_per_kgco2e * emitted_kg
    affordable = None
    if conditions.budget_left_usd is not None:
        affordable = table.most_usd(input_tokens) <= conditions.budget_left_usd
        if not affordable.any():
            raise Infeasible(
                "the budget of this period is used up; raise it, or wait for the next period",
                reason="BUDGET_EXHAUSTED",
            )
    return Standing(predictions=predictions, weighed_usd=weighed, affordable=affordable)


def _slowed(predictions: Predictions, slowdown: Floats) -> Predictions:
    return replace(
        predictions,
        latency_p50_s=predictions.latency_p50_s * slowdown,
        latency_p95_s=predictions.latency_p95_s * slowdown,
        latency_p99_s=predictions.latency_p99_s * slowdown,
    )


def restand(table: ArmTable, decision: Decision) -> Standing:
    """The standing that a decision was made with; its predictions are those of the conditions."""
    steady = replace(decision.conditions, backends={})
    return stand(table, decision.predictions, decision.slo, steady, decision.input_tokens)
