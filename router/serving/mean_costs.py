"""What each slo's decisions are expected to cost on average, as this worker has seen."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from router.slo import Slo
from router.types import Decision

_LEAST_DECISIONS = 50
_KEPT = 1.0 - 1.0 / 100
_CHANGED = 0.05


@dataclass(slots=True, kw_only=True)
class _Mean:
    """A mean that forgets: an old decision counts a hundredth less with each new one."""

    versions: tuple[int, int]
    decisions: int = 0
    weight: float = 0.0
    total_usd: float = 0.0
    told_usd: float = 0.0

    def add(self, cost_usd: float, weight: float) -> None:
        """Takes one decision in; what is told stays as it is while it is near enough."""
        self.decisions += 1
        self.weight = self.weight * _KEPT + weight
        self.total_usd = self.total_usd * _KEPT + weight * cost_usd
        mean = self.total_usd / self.weight
        if abs(mean - self.told_usd) > _CHANGED * mean:
            self.told_usd = float(f"{mean:.3g}")


class MeanCosts:
    """Means before exploration, by slo; belongs to the event loop.

    They are told to a twentieth, so that decisions which follow each other share them, and
    begin anew with each version of the slo and of the policy.
    """

    def __init__(self) -> None:
        self._means: dict[tuple[UUID, str], _Mean] = {}

    def now(self, tenant_id: UUID, slo: Slo, policy_version: int) -> float | None:
        """The mean cost in dollars; None while too few decisions are known."""
        found = self._means.get((tenant_id, slo.name))
        if found is None or found.versions != (slo.version, policy_version):
            return None
        return found.told_usd if found.decisions >= _LEAST_DECISIONS else None

    def decided(self, tenant_id: UUID, decision: Decision) -> None:
        """Takes a decision in; one that did not explore stands for those that did instead."""
        choice, slo = decision.choice, decision.slo
        if choice.explored:
            return
        key, versions = (tenant_id, slo.name), (slo.version, decision.policy_version)
        mean = self._means.get(key)
        if mean is None or mean.versions != versions:
            mean = self._means[key] = _Mean(versions=versions)
        cost_usd = float(decision.predictions.cost_usd[choice.index])
        mean.add(cost_usd, 1.0 / choice.propensity)
