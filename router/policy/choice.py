"""The choice: which arms a query leaves, which of them meet the slo, and the cheapest of those."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from router.errors import Infeasible
from router.policy.arms import compute
from router.policy.priors import calls
from router.policy.tradeoff import Tradeoff
from router.slo import AccuracyScope, OnInfeasible, Slo
from router.types import (
    Arm,
    Bounds,
    Capability,
    Catalog,
    Choice,
    Floats,
    Mask,
    Model,
    Predictions,
    Query,
    SloStatus,
)

_NEAR_BEST = 0.01


class ArmTable:
    """What is known of the arms without a query: capabilities, limits, compute. Immutable."""

    def __init__(self, catalog: Catalog) -> None:
        models = [catalog.model(arm.model) for arm in catalog.arms]
        self.arms = catalog.arms
        self.keys = tuple(arm.key for arm in catalog.arms)
        self.compute = np.array([compute(arm) for arm in catalog.arms])
        self.context_tokens = np.array([model.context_tokens for model in models])
        self.gco2e_per_wh = np.array([model.grid_gco2e_per_kwh / 1_000 for model in models])
        self.calls = np.array([calls(arm) for arm in catalog.arms])
        self.cached_saving_usd_per_token = np.array([_cached_saving(model) for model in models])
        self._shortest_context = min((model.context_tokens for model in models), default=0)
        self._able = {
            capability: np.array([capability in model.capabilities for model in models], bool)
            for capability in Capability
        }
        self._by_slo: dict[tuple[tuple[str, ...], ...], Mask] = {}

    def eligible(self, query: Query, slo: Slo, bounds: Bounds) -> Mask:
        """The arms that may be run at all, shape (a,). Raises Infeasible when none may."""
        mask = self._permitted(slo)
        for name, check in self._checks(query, bounds):
            left = mask & check
            if not left.any():
                raise Infeasible(f"no arm is left by {name}; relax it or add arms to the catalog")
            mask = left
        return mask

    def _checks(self, query: Query, bounds: Bounds) -> list[tuple[str, Mask]]:
        """The checks that can leave an arm out, by name."""
        checks = [(f"capability '{need}'", self._able[need]) for need in query.needs]
        needed = max(query.needs_context_tokens, query.input_tokens)
        if needed > self._shortest_context:
            checks.append(("context length", self.context_tokens >= needed))
        if bounds.compute_budget:
            checks.append(("compute_budget", self.compute <= bounds.compute_budget))
        if bounds.allowed_arms:
            checks.append(("allowed_arms", self._named(bounds.allowed_arms)))
        if bounds.excluded_arms:
            checks.append(("excluded_arms", ~self._named(bounds.excluded_arms)))
        return checks

    def _permitted(self, slo: Slo) -> Mask:
        names = (slo.allowed_models, slo.excluded_models, slo.allowed_strategies)
        mask = self._by_slo.get(names)
        if mask is None:
            mask = np.array([_permits(slo, arm) for arm in self.arms], bool)
            self._by_slo[names] = mask
        if not mask.any():
            raise Infeasible(
                "no arm in the catalog is left by the slo's models and strategies; "
                "add arms with 'leadline arms add' or relax the slo"
            )
        return mask

    def _named(self, keys: frozenset[str]) -> Mask:
        return np.array([key in keys for key in self.keys], bool)


def _cached_saving(model: Model) -> float:
    """What a token of input that the provider still has saves of its price, in dollars."""
    if model.cached_input_usd_per_mtok is None:
        return 0.0
    return max(model.input_usd_per_mtok - model.cached_input_usd_per_mtok, 0.0) / 1e6


def _permits(slo: Slo, arm: Arm) -> bool:
    return (
        (not slo.allowed_models or arm.model in slo.allowed_models)
        and arm.model not in slo.excluded_models
        and (not slo.allowed_strategies or arm.strategy in slo.allowed_strategies)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The numeric bounds of one decision: the tighter of the slo's and the request's."""

    cost_usd: float | None
    latency_s: float | None
    latency_quantile: float
    accuracy: float | None

    @classmethod
    def of(cls, slo: Slo, bounds: Bounds, *, per_query: bool) -> Limits:
        """The bounds; the accuracy floor is among them when it holds for each query."""
        return cls(
            cost_usd=_tighter(slo.max_cost_usd, bounds.max_cost_usd),
            latency_s=_tighter(slo.max_latency_s, bounds.max_latency_s),
            latency_quantile=slo.latency_quantile,
            accuracy=slo.min_accuracy if per_query else None,
        )

    @property
    def bounded(self) -> bool:
        """Whether there is any bound."""
        bounds = (self.cost_usd, self.latency_s, self.accuracy)
        return any(bound is not None for bound in bounds)

    def excess(self, predictions: Predictions) -> Floats:
        """How far each arm is beyond the bounds, relative and summed; 0 meets all. Shape (a,).

        An arm whose latency was never measured does not meet a latency bound.
        """
        excess = np.zeros(len(predictions.cost_usd))
        if self.cost_usd is not None:
            excess += _over(predictions.cost_usd, self.cost_usd)
        if self.latency_s is not None:
            excess += _over(predictions.latency_s(self.latency_quantile), self.latency_s)
        if self.accuracy is not None and self.accuracy > 0:
            excess += np.maximum(1.0 - predictions.accuracy / self.accuracy, 0.0)
        return excess

    def __str__(self) -> str:
        named = (
            ("cost", self.cost_usd, " USD"),
            ("latency", self.latency_s, " s"),
            ("accuracy", self.accuracy, ""),
        )
        return ", ".join(f"{name} {bound:g}{unit}" for name, bound, unit in named if bound)


def _tighter(one: float | None, other: float | None) -> float | None:
    both = [bound for bound in (one, other) if bound is not None]
    return min(both, default=None)


def _over(values: Floats, bound: float) -> Floats:
    return np.where(np.isnan(values), 1e9, np.maximum(values / bound - 1.0, 0.0))


Utility = Callable[[float, Mask], Floats]
"""What each arm is worth (a,), in dollars, at a value of a correct answer among feasible arms."""


def choose(
    predictions: Predictions,
    eligible: Mask,
    slo: Slo,
    bounds: Bounds,
    tradeoff: Tradeoff | None,
    *,
    utility: Utility | None = None,
) -> Choice:
    """The cheapest arm that is predicted to meet the slo, before exploration.

    With a per-query floor: the cheapest arm at or above it. With an average floor: the
    arm of the greatest value x accuracy - cost, at the value that the trade-off curve
    gives for the floor (without a curve the floor holds per query). With
    `accuracy_value_usd`: the same at that value. With none of them: as accurate as the
    best constant arm on average, at the least cost. `utility` takes the place of value x
    accuracy - cost where more attempts may follow. When no arm meets the bounds, what the
    slo's `on_infeasible` says. Raises Infeasible when that is reject.
    """
    per_query = slo.accuracy_scope is AccuracyScope.PER_QUERY or tradeoff is None
    limits = Limits.of(slo, bounds, per_query=per_query)
    feasible = eligible
    if limits.bounded:
        excess = limits.excess(predictions)
        feasible = eligible & (excess <= 0)
        if not feasible.any():
            return _infeasible(predictions, eligible, excess, slo, limits)
    objective = _objective(slo, tradeoff, utility, per_query=per_query)
    index, met, reason = objective(predictions, feasible)
    if not met and slo.on_infeasible is OnInfeasible.REJECT:
        raise Infeasible(f"{reason}; lower min_accuracy or set on_infeasible to best_effort")
    return Choice(
        index=index,
        feasible=feasible,
        propensity=1.0,
        explored=False,
        slo_status=_status(slo, bounds, met=met),
        reason=reason,
    )


Objective = Callable[[Predictions, Mask], tuple[int, bool, str]]


def _objective(
    slo: Slo, tradeoff: Tradeoff | None, utility: Utility | None, *, per_query: bool
) -> Objective:
    if slo.accuracy_value_usd is not None:
        return _at_value(
            slo.accuracy_value_usd, utility, met=True, why="best trade-off at the given value"
        )
    if slo.min_accuracy is not None and (per_query or tradeoff is None):
        return _cheapest_feasible
    if tradeoff is None:
        return _near_best
    if slo.min_accuracy is None:
        value, _ = tradeoff.value_for(tradeoff.best_constant_accuracy)
        return _at_value(
            value, utility, met=True, why="as accurate as the best constant arm, at less cost"
        )
    value, met = tradeoff.value_for(slo.min_accuracy)
    if met:
        return _at_value(
            value, utility, met=True, why=f"mean accuracy of at least {slo.min_accuracy:g}"
        )
    reach = float(tradeoff.accuracy.max())
    return _at_value(
        value,
        utility,
        met=False,
        why=f"min_accuracy {slo.min_accuracy:g} is beyond reach ({reach:.3f})",
    )


def _at_value(value_usd: float, utility: Utility | None, *, met: bool, why: str) -> Objective:
    def pick(predictions: Predictions, feasible: Mask) -> tuple[int, bool, str]:
        if utility is not None:
            return _best(utility(value_usd, feasible), feasible), met, why
        single = value_usd * predictions.accuracy - predictions.cost_usd
        return _best(single, feasible), met, why

    return pick


def _cheapest_feasible(predictions: Predictions, feasible: Mask) -> tuple[int, bool, str]:
    return _best(-predictions.cost_usd, feasible), True, "cheapest arm at or above the floor"


def _near_best(predictions: Predictions, feasible: Mask) -> tuple[int, bool, str]:
    """The static policy without a floor: the cheapest arm near the best single prior."""
    floor = predictions.accuracy[feasible].max() - _NEAR_BEST
    near = feasible & (predictions.accuracy >= floor)
    return _best(-predictions.cost_usd, near), True, "cheapest arm near the best prior"


def _best(utility: Floats, mask: Mask) -> int:
    return int(np.where(mask & ~np.isnan(utility), utility, -np.inf).argmax())


def _infeasible(
    predictions: Predictions, eligible: Mask, excess: Floats, slo: Slo, limits: Limits
) -> Choice:
    if slo.on_infeasible is OnInfeasible.REJECT:
        raise Infeasible(f"no arm meets {limits}; relax it or set on_infeasible to best_effort")
    cheapest = slo.on_infeasible is OnInfeasible.CHEAPEST
    index = _best(-predictions.cost_usd if cheapest else -excess, eligible)
    taken = "the cheapest" if cheapest else "the nearest"
    feasible = np.zeros_like(eligible)
    return Choice(
        index=index,
        feasible=feasible,
        propensity=1.0,
        explored=False,
        slo_status=SloStatus.BEST_EFFORT,
        reason=f"no arm meets {limits}; took {taken}",
    )


def _status(slo: Slo, bounds: Bounds, *, met: bool) -> SloStatus:
    if not met:
        return SloStatus.BEST_EFFORT
    asked = (slo.min_accuracy, slo.max_cost_usd, slo.max_latency_s, slo.accuracy_value_usd)
    bounded = (*asked, bounds.max_cost_usd, bounds.max_latency_s)
    return SloStatus.NO_SLO if all(bound is None for bound in bounded) else SloStatus.MET
