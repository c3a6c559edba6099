"""What one worker holds of every slo's budgets, and what its decisions may spend of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from router.policy.table import ArmTable
from router.slo import Slo
from router.types import Decision, Query


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a decision's conditions say of budgets: their price, and what may be spent now."""

    cost_multiplier: float
    left_usd: float


class Purses(Protocol):
    """What decisions and outcomes ask of the worker's budgets (class Wallets).

    All but `ready` answer in microseconds and belong to the event loop.
    """

    async def ready(
        self, tenant_id: UUID, slo: Slo, table: ArmTable, query: Query, *, decisions: int = 1
    ) -> None:
        """Sees to it that so many decisions can be paid for, before they are made.

        Does nothing for an slo without budgets. Raises Unavailable when nothing is held and
        Postgres, which alone may lease more, is away.
        """

    def held(self, tenant_id: UUID, slo: Slo) -> Held | None:
        """What holds for the next decision of this slo; None where it has no budgets."""

    def reserve(self, tenant_id: UUID, decision: Decision, table: ArmTable) -> bool:
        """Reserves the most that the decision's arm can cost, before the next one is made.

        False, and nothing is done, where its conditions name no budget or it has reserved
        already. Raises Infeasible (BUDGET_EXHAUSTED) when what was held is gone meanwhile.
        """

    def release(self, tenant_id: UUID, decision_id: UUID, attempt: int = 0) -> None:
        """Undoes the reservation of a decision that was not logged after all."""

    def reserve_next(
        self,
        tenant_id: UUID,
        slo: Slo,
        decision_id: UUID,
        attempt: int,
        *,
        expected_usd: float,
        most_usd: float,
    ) -> bool:
        """As `reserve`, for an attempt that Continue names."""

    def spent(self, tenant_id: UUID, decision_id: UUID, attempt: int, cost_usd: float) -> None:
        """Counts what an attempt cost in place of its reservation; again: the difference."""
