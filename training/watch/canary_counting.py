"""From what arrived to what is compared: which side chance could have given, and what counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from router.policy.canary import chance_of, place_of
from router.slo import Slo
from router.store.canaries import SideSeen
from training.canary.bets import thinned, thinning
from training.canary.comparison import Seen
from training.canary.judge import Plan
from training.watch.canary_kept import Kept


@dataclass(slots=True)
class Counting:
    """Adds batches to what is kept."""

    version: int
    kept: Kept
    plan: Plan

    def add(
        self,
        tenant_id: UUID,
        rows: Sequence[SideSeen],
        decisions: int,
        slos: dict[tuple[str, int], Slo | None],
    ) -> None:
        """Adds a tenant's decisions of the canary, and what is known of those on both sides."""
        guards, seen, apart = dict(self.kept.guards), [], 0
        for row in rows:
            if not self._is_compared(tenant_id, row, guards):
                apart += 1
            elif (each := self._seen(tenant_id, row, slos)) is not None:
                seen.append(_under_floor(each, row, slos[row.slo_name, row.slo_version]))
        self.kept = self.kept.with_more(
            decisions=decisions,
            apart=apart,
            guards=guards,
            comparison=self.kept.comparison.observe(seen, self.plan.margins),
        )

    def _is_compared(self, tenant_id: UUID, row: SideSeen, guards: dict[str, bool]) -> bool:
        """Whether both sides decide on their own under the slo, or neither, as far as is known.

        Where a floor is broken, or not certified for one of the policies, that side takes the
        safe arm, which tells nothing of it beside the other's own picks. Where both take it, as
        while nothing learnt serves, a promotion changes nothing before a certificate does.
        """
        if row.promise is None:
            return True
        guarded = _is_guarded(row.promise)
        is_canary = row.policy_version == self.version
        name = f"{tenant_id}/{row.slo_name}/"
        guards[f"{name}{is_canary}"] = guarded
        return guards.get(f"{name}{not is_canary}") is guarded

    def _seen(
        self, tenant_id: UUID, row: SideSeen, slos: dict[tuple[str, int], Slo | None]
    ) -> Seen | None:
        """What came of it; None for one of more than enough of the active policy's."""
        canary, chance = row.policy_version == self.version, self._chance(tenant_id, row)
        drawn = (row.decision_id.int & 0xFFFFFFFF) / (1 << 32)
        if not canary and drawn >= thinning(chance):
            return None
        slo = slos[row.slo_name, row.slo_version]
        return Seen(
            canary=canary,
            chance=thinned(chance),
            score=row.score,
            cost_usd=_cost_usd(row, slo) if row.is_told else None,
            latency_s=row.latency_s if row.is_told and not row.failed else None,
            bound_s=slo.max_latency_s if slo else None,
            failed=row.failed if row.is_told else None,
        )

    def _chance(self, tenant_id: UUID, row: SideSeen) -> float:
        """How probable the canary's side was when it was decided."""
        shares = [share for at, share in self.kept.steps if at <= row.occurred_at]
        if not row.unit:
            return shares[-1]
        place = place_of(self.version, tenant_id, row.unit)
        return chance_of(place, shares[-1], shares[:-1])


def _is_guarded(promise: Mapping[str, Any]) -> bool:
    """Whether the safe arm was taken for want of a certificate, or since outcomes broke it."""
    return promise.get("value_usd") is None or promise.get("monitor") == "broken"


def _under_floor(seen: Seen, row: SideSeen, slo: Slo | None) -> Seen:
    """The same as far as it tells of what an slo with a floor asks.

    What the safe arm costs tells nothing of what the policy will cost once it is certified.
    Where both are, the floor is what is asked and the cheaper of two that meet it is the
    better one: the canary's answers are held against those of chance at the floor, not
    against more than it that the active policy may buy.
    """
    if row.promise is None or slo is None:
        return seen
    if _is_guarded(row.promise):
        return replace(seen, cost_usd=None)
    if seen.canary or slo.min_accuracy is None or seen.score is None:
        return seen
    drawn = (row.decision_id.int >> 32 & 0xFFFFFFF) / (1 << 28)
    return replace(seen, score=float(drawn < slo.min_accuracy))


def _cost_usd(row: SideSeen, slo: Slo | None) -> float | None:
    """What a decision cost; where the slo says what a correct answer is worth, with what it lost.

    Else no canary that spends more for what is worth more to the tenant would ever grow.
    """
    value_usd = slo.accuracy_value_usd if slo else None
    if value_usd is None or row.cost_usd is None:
        return row.cost_usd
    return None if row.score is None else row.cost_usd + value_usd * (1.0 - row.score)
