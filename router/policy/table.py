"""What is known of the arms without a query, and which of them may be run for one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from router.conditions import PLAIN, Backend, Conditions, Limit
from router.errors import Infeasible
from router.policy.arms import compute, most_calls
from router.policy.priors import calls
from router.slo import Slo
from router.types import Bounds, Capability, Catalog, Floats, Mask, Model, Query

_SAID = {
    Limit.CAPABILITY: "the capabilities that the query needs",
    Limit.CONTEXT: "context length",
    Limit.COMPUTE: "compute_budget",
    Limit.NAMED: "allowed_arms and excluded_arms",
    Limit.SLO_ARMS: "the slo's models and strategies",
    Limit.REGION: "the slo's regions",
}


class ArmTable:
    """The arms of a catalog as arrays (a,): capabilities, limits, prices, compute. Immutable."""

    def __init__(self, catalog: Catalog) -> None:
        models = [catalog.model(arm.model) for arm in catalog.arms]
        self.arms = catalog.arms
        self.keys = tuple(arm.key for arm in catalog.arms)
        self.models = tuple(arm.model for arm in catalog.arms)
        self.compute = np.array([compute(arm) for arm in catalog.arms])
        self.context_tokens = np.array([model.context_tokens for model in models])
        self.gco2e_per_wh = np.array([model.grid_gco2e_per_kwh / 1_000 for model in models])
        self.calls = np.array([calls(arm) for arm in catalog.arms])
        self._most_calls = np.array([most_calls(arm) for arm in catalog.arms])
        self.cached_saving_usd_per_token = np.array([_cached_saving(model) for model in models])
        self._input_usd = np.array([model.input_usd_per_mtok / 1e6 for model in models])
        self._most_output_usd = np.array([_most_output(model) for model in models])
        self._regions = tuple(model.region for model in models)
        self.shortest_context = min((model.context_tokens for model in models), default=0)
        self._able = {
            capability: np.array([capability in model.capabilities for model in models], bool)
            for capability in Capability
        }
        self._by_slo: dict[tuple[tuple[str, ...], ...], Mask] = {}
        self._by_region: dict[tuple[tuple[str, ...], ...], Mask] = {}
        self._everything, self._nothing = np.ones(len(models), bool), np.zeros(len(models), bool)
        self._of_model = {
            name: np.array([model == name for model in self.models], bool)
            for name in set(self.models)
        }

    def eligible(
        self, query: Query, slo: Slo, bounds: Bounds, conditions: Conditions = PLAIN
    ) -> Mask:
        """The arms that may be run at all, shape (a,). Raises Infeasible when none may."""
        return self.left(self.checks(query, slo, bounds, conditions))

    def left(self, checks: Iterable[tuple[Limit, Mask]]) -> Mask:
        """The arms that all checks leave, shape (a,). Raises Infeasible when they leave none.

        Where every backend is down, they stay in: to try beats to refuse.
        """
        mask = self._everything
        for limit, check in checks:
            left = mask & check
            if not left.any():
                if limit is Limit.BACKEND:
                    continue
                raise _nothing_left(limit)
            mask = left
        return mask

    def checks(
        self, query: Query, slo: Slo, bounds: Bounds, conditions: Conditions = PLAIN
    ) -> Iterator[tuple[Limit, Mask]]:
        """The arms that each limit leaves by itself, whatever the others do."""
        if any(_lists(slo)):
            yield Limit.SLO_ARMS, self._permitted(slo)
        if slo.allowed_regions or slo.excluded_regions:
            yield Limit.REGION, self._in(slo.allowed_regions, slo.excluded_regions)
        if query.needs:
            yield Limit.CAPABILITY, np.all([self._able[need] for need in query.needs], axis=0)
        needed = max(query.needs_context_tokens, query.input_tokens)
        if needed > self.shortest_context:
            yield Limit.CONTEXT, self.context_tokens >= needed
        if bounds.compute_budget:
            yield Limit.COMPUTE, self.compute <= bounds.compute_budget
        if bounds.allowed_arms or bounds.excluded_arms:
            yield Limit.NAMED, self._named(bounds)
        if not all(backend.available for backend in conditions.backends.values()):
            yield Limit.BACKEND, self.available(conditions.backends)

    def available(self, backends: Mapping[str, Backend]) -> Mask:
        """The arms whose model's backend is not known to be down, shape (a,)."""
        mask = self._everything.copy()
        for model, backend in backends.items():
            if not backend.available:
                mask &= ~self.of_model(model)
        return mask

    def of_model(self, model: str) -> Mask:
        """The arms of a model, shape (a,)."""
        return self._of_model.get(model, self._nothing)

    def of_models(self, models: Iterable[str]) -> Mask:
        """The arms of any of these models, shape (a,)."""
        masks = [self._nothing, *map(self.of_model, models)]
        return np.asarray(np.any(masks, axis=0), bool)

    def most_usd(self, input_tokens: int) -> Floats:
        """The most that one attempt of each arm can cost, shape (a,).

        Every call sends the input and writes as much as its model may.
        """
        per_call_usd = input_tokens * self._input_usd + self._most_output_usd
        return np.asarray(self._most_calls * per_call_usd)

    def place(self, key: str) -> int | None:
        """The place of the arm with this key, None when the catalog has it not."""
        return self.keys.index(key) if key in self.keys else None

    def _permitted(self, slo: Slo) -> Mask:
        names = _lists(slo)
        mask = self._by_slo.get(names)
        if mask is None:
            mask = np.array([slo.permits(arm.model, arm.strategy) for arm in self.arms], bool)
            self._by_slo[names] = mask
        return mask

    def _in(self, allowed: tuple[str, ...], excluded: tuple[str, ...]) -> Mask:
        mask = self._by_region.get((allowed, excluded))
        if mask is None:
            mask = np.array(
                [
                    (not allowed or each in allowed) and each not in excluded
                    for each in self._regions
                ],
                bool,
            )
            self._by_region[allowed, excluded] = mask
        return mask

    def _named(self, bounds: Bounds) -> Mask:
        allowed, excluded = bounds.allowed_arms, bounds.excluded_arms
        return np.array(
            [(not allowed or key in allowed) and key not in excluded for key in self.keys], bool
        )


def _nothing_left(limit: Limit) -> Infeasible:
    return Infeasible(
        f"no arm is left by {_SAID[limit]}; relax it, or add arms with 'leadline arms add'"
    )


def _cached_saving(model: Model) -> float:
    """What a token of input that the provider still has saves of its price, in dollars."""
    if model.cached_input_usd_per_mtok is None:
        return 0.0
    return max(model.input_usd_per_mtok - model.cached_input_usd_per_mtok, 0.0) / 1e6


def _most_output(model: Model) -> float:
    """What the longest answer of one call costs, in dollars."""
    return model.max_output_tokens * model.output_usd_per_mtok / 1e6


def _lists(slo: Slo) -> tuple[tuple[str, ...], ...]:
    """The slo's lists of models and strategies."""
    models = slo.allowed_models, slo.excluded_models
    return (*models, slo.allowed_strategies, slo.excluded_strategies)
