"""What the watcher asks of Postgres about a canary: what came of decisions on both sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, Text, cast, func, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from router.store.arrivals import CONTINUED_WITHIN
from router.store.engine import tenant_scope, transaction
from router.store.tables import policies
from router.store.watching import ANSWERED_WITHIN
from router.types import PolicyState

MOST_AT_ONCE = 10_000
LATE = timedelta(hours=1)
"""Decisions that arrive later than this after they were made are found by their outcomes alone."""

UNSETTLED = """
select min(o.arrival) from outcomes o
join decisions d on d.tenant_id = o.tenant_id and d.occurred_at = o.decided_at
    and d.decision_id = o.decision_id
where o.tenant_id = :tenant and o.arrival >= :since and o.arrival < :until
    and least(o.occurred_at, d.occurred_at + :answered) > :after and d.should_continue
"""
CUT = """
select arrival + 1 from outcomes
where tenant_id = :tenant and arrival >= :since and arrival < :until
order by arrival offset :most limit 1
"""
COUNTED = """
select policy_version, count(*) from decisions
where tenant_id = :tenant and occurred_at >= greatest(:lately, cast(:step as timestamptz))
    and arrival >= :since and arrival < :until and policy_version in (:canary, :active)
    and policy_source <> 'import'
group by 1
"""
# What costs and latencies are known of a decision's attempts, from outcomes or from evidence.
# A decision counts once its first outcome is there, and its score once its first score is;
# later ones change neither. Of a unit only the first decision under each share counts.
SEEN = """
with touched as (
    select decided_at, decision_id from outcomes
    where tenant_id = :tenant and arrival >= :since and arrival < :until and decided_at >= :began
    union
    select occurred_at, decision_id from decisions d
    where tenant_id = :tenant and occurred_at >= :lately and occurred_at >= :began
        and arrival >= :since and arrival < :until
        and exists (select from outcomes o where o.tenant_id = d.tenant_id
            and o.decided_at = d.occurred_at and o.decision_id = d.decision_id
            and o.arrival < d.arrival)
), told as (
    select o.decided_at, o.decision_id, o.attempt, o.cost_usd, o.latency_s, o.score, o.error,
        o.occurred_at, coalesce(o.arrival, 0) as arrival
    from touched join outcomes o on o.tenant_id = :tenant and o.decided_at = touched.decided_at
        and o.decision_id = touched.decision_id
), shown as (
    select a.decided_at, a.decision_id, a.attempt, a.keep, a.occurred_at, a.evidence
    from touched join attempts a on a.tenant_id = :tenant and a.decided_at = touched.decided_at
        and a.decision_id = touched.decision_id
), spent as (
    select decision_id, sum(cost_usd) as cost_usd, sum(latency_s) as latency_s
    from (
        select decision_id, attempt, max(cost_usd) as cost_usd, max(latency_s) as latency_s
        from (
            select decision_id, attempt, cost_usd, latency_s from told
            union all
            select decision_id, attempt, cast(evidence ->> 'cost_usd' as double precision),
                cast(evidence ->> 'latency_s' as double precision) from shown
        ) known group by decision_id, attempt
    ) each_attempt group by decision_id
), counted as (
    select decision_id, min(arrival) as told_at, bool_or(coalesce(error, '') <> '') as failed,
        min(arrival) filter (where score is not null and coalesce(error, '') = '') as scored_at
    from told group by decision_id
), scored as (
    select t.decision_id, avg(t.score) as score
    from told t
    left join lateral (
        select case when keep then coalesce(cast(evidence ->> 'best' as integer), s.attempt)
            else s.attempt + 1 end as attempt
        from shown s where s.decision_id = t.decision_id
            and s.occurred_at <= t.occurred_at + :continued
        order by s.attempt desc limit 1
    ) kept on true
    where t.score is not null and coalesce(t.error, '') = ''
        and t.attempt = coalesce(kept.attempt, t.attempt)
    group by t.decision_id
)
select d.decision_id, d.occurred_at, d.policy_version, d.slo_name,
    coalesce(d.slo_version, 0) as slo_version,
    coalesce(d.conversation_id, d.subject, '') as unit, d.conditions -> 'promise' as promise,
    greatest(told_at, d.arrival) between :since and :last as is_told, cost_usd, latency_s, failed,
    case when greatest(scored_at, d.arrival) between :since and :last then score end as score
from touched
join decisions d on d.tenant_id = :tenant and d.occurred_at = touched.decided_at
    and d.decision_id = touched.decision_id
join counted on counted.decision_id = d.decision_id
left join spent on spent.decision_id = d.decision_id
left join scored on scored.decision_id = d.decision_id
cross join lateral (
    select max(began) as began from unnest(cast(:steps as timestamptz[])) each(began)
    where began <= d.occurred_at
) step
where d.policy_version in (:canary, :active) and d.policy_source <> 'import'
    and (greatest(told_at, d.arrival) between :since and :last
        or scored_at is not null and greatest(scored_at, d.arrival) between :since and :last)
    and not exists (select from decisions e where e.tenant_id = :tenant
        and coalesce(e.conversation_id, e.subject) = coalesce(d.conversation_id, d.subject)
        and e.arrival is not null and e.occurred_at >= step.began
        and e.occurred_at < d.occurred_at)
order by greatest(told_at, d.arrival), d.decision_id
"""


BESIDE = """
select decision_id, occurred_at, query, request, input_tokens, slo_name,
    coalesce(slo_version, 0) as slo_version, conditions, arm, predictions
from decisions
where tenant_id = :tenant and arrival >= :since and arrival < :until and occurred_at >= :lately
    and policy_version = :active and policy_source <> 'import'
    and query is not null and predictions is not null
order by occurred_at desc limit :most
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SideSeen:
    """What became known of a decision: all but its score where `is_told`, and its score if any.

    `cost_usd` and `latency_s` are those of all attempts. `promise` is what its conditions hold
    of one.
    """

    decision_id: UUID
    occurred_at: datetime
    policy_version: int
    slo_name: str
    slo_version: int
    unit: str
    promise: Mapping[str, Any] | None
    is_told: bool
    cost_usd: float | None
    latency_s: float | None
    failed: bool
    score: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """Which decisions to look at: those of two policies since the shares began, oldest first.

    `lately` bounds from below when decisions were made that arrive only now.
    """

    canary: int
    active: int
    steps: Sequence[datetime]
    lately: datetime


class PostgresCanaries:
    """Reads what came of decisions on both sides and keeps what was found; the trainer's role."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def kept(self, version: int) -> Mapping[str, Any] | None:
        """What `note` kept last; None for one that began anew."""
        query = select(policies.c.canary["kept"]).where(policies.c.version == version)
        with transaction(self._engine) as connection:
            found: Mapping[str, Any] | None = connection.scalar(query)
        return found

    def note(self, version: int, found: Mapping[str, Any], kept: Mapping[str, Any]) -> bool:
        """Writes what was found, for people, and what is needed to go on, in one.

        Nobody is told. False where it is no canary any more: then nothing is written.
        """
        body = cast({"found": dict(found), "kept": dict(kept)}, JSONB)
        query = (
            update(policies)
            .where(policies.c.version == version, policies.c.state == PolicyState.CANARY)
            .values(canary=body)
        )
        with transaction(self._engine) as connection:
            return connection.execute(query).rowcount == 1

    def untold(self) -> Mapping[int, Sequence[Mapping[str, Any]]]:
        """What is kept under `untold`, by policy, where there is any."""
        events = policies.c.canary["kept"]["untold"]
        query = select(policies.c.version, events).where(func.jsonb_array_length(events) > 0)
        with transaction(self._engine) as connection:
            return {int(row[0]): row[1] for row in connection.execute(query)}

    def told(self, version: int, left: Sequence[Mapping[str, Any]]) -> None:
        """Replaces what is kept under `untold`, whatever has become of the canary."""
        place = ["kept", "untold"]
        body = func.jsonb_set(policies.c.canary, cast(place, ARRAY(Text)), cast(list(left), JSONB))
        query = update(policies).where(policies.c.version == version).values(canary=body)
        with transaction(self._engine) as connection:
            connection.execute(query)

    def settled(self, tenant_id: UUID, since: int, until: int, after: datetime) -> int:
        """The place, `until` at most, before which it is known which answers were kept."""
        asked: dict[str, Any] = {"tenant": tenant_id, "since": since, "until": until}
        asked |= {"after": after, "answered": ANSWERED_WITHIN}
        with tenant_scope(self._engine, tenant_id) as connection:
            first = connection.scalar(text(UNSETTLED), asked)
        return until if first is None else int(first)

    def seen(
        self, tenant_id: UUID, sides: Sides, since: int, until: int
    ) -> tuple[Sequence[SideSeen], Mapping[int, int], int]:
        """What arrived from `since` on: of which decisions, how many by policy, and until where.

        About 10,000 outcomes at most, those that arrived together at once; decisions are
        counted since the last step began.
        """
        asked: dict[str, Any] = {"tenant": tenant_id, "since": since, "until": until}
        asked |= {"canary": sides.canary, "active": sides.active, "lately": sides.lately}
        with tenant_scope(self._engine, tenant_id) as connection:
            asked["until"] = _cut(connection, asked)
            counts = connection.execute(text(COUNTED), asked | {"step": sides.steps[-1]}).all()
            asked |= {"steps": list(sides.steps), "began": sides.steps[0]}
            asked["last"] = asked["until"] - 1
            found = connection.execute(text(SEEN), asked | {"continued": CONTINUED_WITHIN})
            rows = [SideSeen(**row) for row in found.mappings()]
        return rows, {int(version): int(count) for version, count in counts}, asked["until"]

    def beside(
        self, tenant_id: UUID, sides: Sides, since: int, until: int, most: int
    ) -> Sequence[Mapping[str, Any]]:
        """Rows of the newest decisions of the active policy that arrived, `most` at most."""
        asked: dict[str, Any] = {"tenant": tenant_id, "since": since, "until": until}
        asked |= {"active": sides.active, "lately": sides.lately, "most": most}
        with tenant_scope(self._engine, tenant_id) as connection:
            return [dict(row) for row in connection.execute(text(BESIDE), asked).mappings()]


def _cut(connection: Connection, asked: Mapping[str, Any]) -> int:
    last = connection.scalar(text(CUT), dict(asked) | {"most": MOST_AT_ONCE - 1})
    return int(asked["until"] if last is None else last)
