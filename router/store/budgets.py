"""Budgets in Postgres: one row per slo, period and start, which leases count up to the cap."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Engine, func, select, text
from sqlalchemy.dialects.postgresql import insert

from router.errors import InvalidInput
from router.store.engine import tenant_scope
from router.store.promise_seams import BudgetRecord
from router.store.tables import budgets

_ROW = (
    "tenant_id = :tenant_id and slo_name = :slo_name and period = :period "
    "and starts_at = :starts_at"
)
LEASE = f"""
with held as (
    select leased_micro_usd as leased from budgets
    where {_ROW} and leased_micro_usd < :cap for update
)
update budgets set leased_micro_usd = held.leased + least(:ask, :cap - held.leased)
from held where {_ROW} returning leased_micro_usd - held.leased
"""  # noqa: S608
_SHOWN = [budgets.c[name] for name in BudgetRecord.__slots__]


class PostgresBudgets:
    """The Budgets seam; the router's role will do."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def lease(
        self,
        tenant_id: UUID,
        slo_name: str,
        period: str,
        starts_at: datetime,
        *,
        cap_micro_usd: int,
        ask_micro_usd: int,
    ) -> int:
        """As the seam says. The row is locked before it is read, so leases take turns."""
        check_ask(ask_micro_usd)
        row = _key(tenant_id, slo_name, period, starts_at)
        asked = {**row, "cap": cap_micro_usd, "ask": ask_micro_usd}
        with tenant_scope(self._engine, tenant_id) as connection:
            granted = connection.scalar(text(LEASE), asked)
            if granted is None:
                connection.execute(insert(budgets).values(row).on_conflict_do_nothing())
                granted = connection.scalar(text(LEASE), asked)
        return int(granted or 0)

    def settle(
        self,
        tenant_id: UUID,
        slo_name: str,
        period: str,
        starts_at: datetime,
        *,
        spent_micro_usd: int,
        give_back_micro_usd: int,
    ) -> None:
        """As the seam says. What is leased is never less than what was spent."""
        check_spent(spent_micro_usd)
        row = _key(tenant_id, slo_name, period, starts_at)
        first = max(spent_micro_usd, -give_back_micro_usd)
        spent = budgets.c.spent_micro_usd + spent_micro_usd
        leased = func.greatest(budgets.c.leased_micro_usd - give_back_micro_usd, spent)
        write = (
            insert(budgets)
            .values(**row, leased_micro_usd=first, spent_micro_usd=spent_micro_usd)
            .on_conflict_do_update(
                index_elements=list(row),
                set_={"leased_micro_usd": leased, "spent_micro_usd": spent},
            )
        )
        with tenant_scope(self._engine, tenant_id) as connection:
            connection.execute(write)

    def spent(self, tenant_id: UUID, since: datetime) -> Sequence[BudgetRecord]:
        """As the seam says."""
        query = (
            select(*_SHOWN)
            .where(budgets.c.tenant_id == tenant_id, budgets.c.starts_at >= since)
            .order_by(budgets.c.starts_at.desc(), budgets.c.slo_name, budgets.c.period)
        )
        with tenant_scope(self._engine, tenant_id) as connection:
            return [BudgetRecord(**row) for row in connection.execute(query).mappings()]


def check_ask(ask_micro_usd: int) -> None:
    """Raises InvalidInput for a lease of less than nothing."""
    if ask_micro_usd < 0:
        raise InvalidInput(f"{ask_micro_usd} is negative; ask for 0 or more", field="ask_micro_usd")


def check_spent(spent_micro_usd: int) -> None:
    """Raises InvalidInput for spending of less than nothing."""
    if spent_micro_usd < 0:
        raise InvalidInput(
            f"{spent_micro_usd} is negative; give money back instead", field="spent_micro_usd"
        )


def _key(tenant_id: UUID, slo_name: str, period: str, starts_at: datetime) -> dict[str, object]:
    return {
        "tenant_id": tenant_id,
        "slo_name": slo_name,
        "period": period,
        "starts_at": starts_at,
    }
