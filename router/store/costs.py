"""What attempts cost, and how many decisions were made, by all that has arrived in Postgres."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Engine, exists, select, text

from router.conditions import Conditions
from router.ids import time_of
from router.policy.demand import Hour
from router.policy.periods import periods
from router.store.engine import tenant_scope
from router.store.memory_outbox import MemoryLog
from router.store.tables import attempts, outcomes

Attempt = tuple[UUID, int]
"""An attempt of a decision: the decision's id, and the attempt's number."""


class Costs(Protocol):
    """The costs of attempts, read again as often as one likes; thread-safe."""

    def known(self, tenant_id: UUID, asked: Sequence[Attempt]) -> Mapping[Attempt, float]:
        """What is known of these attempts' costs, in dollars; the others are left out.

        The newest outcome that names a cost counts, or else the evidence given to Continue.
        """

    def unnamed(self, tenant_id: UUID, decision_ids: Collection[UUID]) -> Mapping[Attempt, float]:
        """The reported costs of these decisions' later attempts that Continue did not name."""

    def hours(
        self, tenant_id: UUID, slo_name: str, since: datetime, until: datetime
    ) -> Sequence[Hour]:
        """The decisions of the slo from the hour that begins at `since` until `until`.

        Hours without any are left out. Counts of busy hours may be estimates.
        """


# Of each quarter of an hour no more than its first decisions are read, whosever slo they are, so
# that a busy log takes no longer; where there are more, the rest goes on as they began.
DECIDED = """
with quarters as (
    select at, least(at + interval '15 minutes', :until) as ends
    from generate_series(
        cast(:since as timestamptz), :until - interval '1 microsecond', interval '15 minutes'
    ) as at
)
select at, found * case
        when seen < :most or last <= at then 1
        else extract(epoch from ends - at) / extract(epoch from last - at)
    end as decisions, log_multiplier
from quarters cross join lateral (
    select count(*) as seen, max(occurred_at) as last,
        count(*) filter (where slo_name = :slo) as found,
        avg(ln(greatest(coalesce(multiplier, 1), 1))) filter (where slo_name = :slo)
            as log_multiplier
    from (
        select slo_name, occurred_at,
            cast(conditions ->> 'cost_multiplier' as double precision) as multiplier
        from decisions
        where tenant_id = :tenant and occurred_at >= at and occurred_at < ends
        order by occurred_at limit :most
    ) first
) counted
where found > 0 order by at
"""
MOST_READ = 100
DECIDED_TIMEOUT = "set local statement_timeout = 2000"


class PostgresCosts:
    """The Costs seam; the router's role will do."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def known(self, tenant_id: UUID, asked: Sequence[Attempt]) -> Mapping[Attempt, float]:
        """As the seam says."""
        if not asked:
            return {}
        with tenant_scope(self._engine, tenant_id) as connection:
            decision_ids = {decision_id for decision_id, _ in asked}
            told = _shown(connection, tenant_id, decision_ids)
            told |= _reported(connection, tenant_id, decision_ids)
        return {attempt: told[attempt] for attempt in asked if attempt in told}

    def unnamed(self, tenant_id: UUID, decision_ids: Collection[UUID]) -> Mapping[Attempt, float]:
        """As the seam says."""
        if not decision_ids:
            return {}
        named = exists().where(
            attempts.c.tenant_id == outcomes.c.tenant_id,
            attempts.c.decided_at == outcomes.c.decided_at,
            attempts.c.decision_id == outcomes.c.decision_id,
            attempts.c.attempt == outcomes.c.attempt - 1,
            attempts.c.next_arm.is_not(None),
        )
        with tenant_scope(self._engine, tenant_id) as connection:
            return _reported(connection, tenant_id, decision_ids, outcomes.c.attempt > 0, ~named)

    def hours(
        self, tenant_id: UUID, slo_name: str, since: datetime, until: datetime
    ) -> Sequence[Hour]:
        """As the seam says, a day at a time: some 10,000 rows of a busy log.

        Raises Unavailable, too, where a day takes too long to read.
        """
        asked = {"tenant": tenant_id, "slo": slo_name, "most": MOST_READ}
        quarters: list[tuple[datetime, float, float]] = []
        with tenant_scope(self._engine, tenant_id) as connection:
            connection.execute(text(DECIDED_TIMEOUT))
            while since < until:
                day = {**asked, "since": since, "until": min(since + timedelta(days=1), until)}
                for at, count, log_multiplier in connection.execute(text(DECIDED), day):
                    quarters.append((at, float(count), float(log_multiplier)))
                since += timedelta(days=1)
        return by_hour(quarters)


def _shown(
    connection: Connection, tenant_id: UUID, decision_ids: Collection[UUID]
) -> dict[Attempt, float]:
    """What Continue was told."""
    cost_usd = attempts.c.evidence["cost_usd"].as_float()
    query = select(attempts.c.decision_id, attempts.c.attempt, cost_usd).where(
        attempts.c.tenant_id == tenant_id,
        attempts.c.decision_id.in_(decision_ids),
        attempts.c.decided_at.between(*_span(decision_ids)),
        cost_usd.is_not(None),
    )
    return {(decision_id, attempt): usd for decision_id, attempt, usd in connection.execute(query)}


def _reported(
    connection: Connection,
    tenant_id: UUID,
    decision_ids: Collection[UUID],
    *only: ColumnElement[bool],
) -> dict[Attempt, float]:
    """What the outcomes say, the newest last."""
    query = (
        select(outcomes.c.decision_id, outcomes.c.attempt, outcomes.c.cost_usd)
        .where(
            outcomes.c.tenant_id == tenant_id,
            outcomes.c.decision_id.in_(decision_ids),
            outcomes.c.decided_at.between(*_span(decision_ids)),
            outcomes.c.cost_usd.is_not(None),
            *only,
        )
        .order_by(outcomes.c.occurred_at, outcomes.c.outcome_id)
    )
    return {(decision_id, attempt): usd for decision_id, attempt, usd in connection.execute(query)}


def _span(decision_ids: Collection[UUID]) -> tuple[object, object]:
    """The time of the decisions, which names their partitions."""
    times = [time_of(decision_id) for decision_id in decision_ids]
    return min(times), max(times) + timedelta(milliseconds=1)


class MemoryCosts:
    """The Costs seam over a log in memory."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    def known(self, tenant_id: UUID, asked: Sequence[Attempt]) -> Mapping[Attempt, float]:
        """As the seam says."""
        told = {attempt: self._cost_usd(tenant_id, attempt) for attempt in asked}
        return {attempt: usd for attempt, usd in told.items() if usd is not None}

    def unnamed(self, tenant_id: UUID, decision_ids: Collection[UUID]) -> Mapping[Attempt, float]:
        """As the seam says."""
        found = {}
        for decision_id in decision_ids:
            for row in self._log.outcomes(tenant_id, decision_id):
                number, cost_usd = row["attempt"], row["cost_usd"]
                before = self._log.attempt(tenant_id, decision_id, number - 1) or {}
                if number > 0 and cost_usd is not None and before.get("next_arm") is None:
                    found[decision_id, number] = float(cost_usd)
        return found

    def hours(
        self, tenant_id: UUID, slo_name: str, since: datetime, until: datetime
    ) -> Sequence[Hour]:
        """As the seam says, and exactly."""
        rows = self._log.decisions(tenant_id, since=since, until=until)
        return by_hour(
            (
                row["occurred_at"],
                1.0,
                math.log(Conditions.from_mapping(row["conditions"]).cost_multiplier),
            )
            for row in rows
            if row["slo_name"] == slo_name
        )

    def _cost_usd(self, tenant_id: UUID, attempt: Attempt) -> float | None:
        decision_id, number = attempt
        for row in reversed(self._log.outcomes(tenant_id, decision_id)):
            if row["attempt"] == number and row["cost_usd"] is not None:
                return float(row["cost_usd"])
        shown = self._log.attempt(tenant_id, decision_id, number)
        cost_usd = ((shown or {}).get("evidence") or {}).get("cost_usd")
        return None if cost_usd is None else float(cost_usd)


def by_hour(counted: Iterable[tuple[datetime, float, float]]) -> list[Hour]:
    """Adds up decisions by their hour: each when, how many, and their mean log multiplier."""
    hours: dict[datetime, tuple[float, float]] = {}
    for at, count, log_multiplier in counted:
        hour = periods(at)["hour"]
        before, logs = hours.get(hour, (0.0, 0.0))
        hours[hour] = before + count, logs + count * log_multiplier
    return [
        Hour(starts_at=hour, decisions=count, log_multiplier=logs / count)
        for hour, (count, logs) in sorted(hours.items())
    ]
