"""What Continue asks of budgets: what may be spent on a next attempt, and what one has cost."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from uuid import UUID

from router.conditions import Conditions
from router.errors import Unavailable
from router.policy.continuation import Step
from router.policy.table import ArmTable
from router.requested import again
from router.serving.budgets import Wallets
from router.serving.decisions import Row
from router.slo import Slo
from router.types import Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """The attempt that ended: its number, its arm's key, what it showed."""

    tenant_id: UUID
    decision_id: UUID
    decision: Row
    number: int
    arm: str
    evidence: Evidence


class Paying:
    """Pays for attempts after the first."""

    def __init__(self, wallets: Wallets) -> None:
        self._wallets = wallets

    async def ready(self, attempt: Attempt, slo: Slo, table: ArmTable) -> None:
        """Counts what the attempt cost, and sees to what a next one may cost, as far as it can."""
        cost_usd = attempt.evidence.cost_usd
        if cost_usd is not None:
            self._wallets.spent(attempt.tenant_id, attempt.decision_id, attempt.number, cost_usd)
        with suppress(Unavailable):
            await self._wallets.ready(attempt.tenant_id, slo, table, again(attempt.decision)[0])

    def conditions(self, attempt: Attempt, slo: Slo) -> Conditions:
        """The decision's own, with what budgets leave now."""
        logged = Conditions.from_mapping(attempt.decision.get("conditions"))
        held = self._wallets.held(attempt.tenant_id, slo)
        return replace(
            logged,
            cost_multiplier=1.0 if held is None else held.cost_multiplier,
            budget_left_usd=None if held is None else held.left_usd,
        )

    def reserve(self, attempt: Attempt, slo: Slo, table: ArmTable, step: Step | None) -> None:
        """Reserves what the next attempt can cost at most. Raises Infeasible."""
        if step is not None and step.next_index is not None:
            self._wallets.reserve_next(
                attempt.tenant_id,
                slo,
                attempt.decision_id,
                attempt.number + 1,
                expected_usd=float(step.predictions.cost_usd[step.next_index]),
                most_usd=float(
                    table.most_usd(attempt.decision["input_tokens"] or 0)[step.next_index]
                ),
            )

    def release(self, attempt: Attempt) -> None:
        """Undoes one call of `reserve` that named a next attempt."""
        self._wallets.release(attempt.tenant_id, attempt.decision_id, attempt.number + 1)
