"""What has arrived in the log since a place in its order, in Postgres.

The place is the id of the transaction that brought the row. Transactions end out of order, but
what is older than the oldest one under way has arrived for good: that is the horizon.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from router.policy.novelty import NOVEL
from router.store.engine import tenant_scope, transaction
from router.store.promise_seams import Fresh, FreshOutcome

CONTINUED_WITHIN = timedelta(seconds=30)

HORIZON = "select cast(cast(pg_snapshot_xmin(pg_current_snapshot()) as text) as bigint)"
DECISIONS = """
select coalesce(slo_version, 0), policy_version, coalesce(novelty >= :novel, false), count(*)
from decisions
where tenant_id = :tenant and slo_name = :slo and arrival >= :since and arrival < :until
group by 1, 2, 3
"""
# `touched` are decisions that may have become scored now: by a score, or by their own late
# arrival. `scored` has the scores of kept answers; a decision counts where its first one, or
# itself if that is later, has arrived, whatever arrives after.
FRESH = """
with touched as (
    select decided_at, decision_id from outcomes
    where tenant_id = :tenant and arrival >= :since and arrival < :until and score is not null
    union
    select occurred_at, decision_id from decisions d
    where tenant_id = :tenant and slo_name = :slo and arrival >= :since and arrival < :until
        and exists (select from outcomes o where o.tenant_id = d.tenant_id
            and o.decided_at = d.occurred_at and o.decision_id = d.decision_id
            and o.arrival < d.arrival)
), scored as (
    select d.decision_id, d.occurred_at as decided_at, coalesce(d.slo_version, 0) as slo_version,
        d.policy_version, d.propensity, coalesce(d.explored, false) as explored, d.novelty,
        d.model, d.arm, d.predictions,
        o.attempt, o.score, coalesce(o.arrival, 0) as arrival,
        greatest(
            min(coalesce(o.arrival, 0)) over (partition by d.decision_id), coalesce(d.arrival, 0)
        ) as counted
    from touched
    join decisions d on d.tenant_id = :tenant and d.occurred_at = touched.decided_at
        and d.decision_id = touched.decision_id and d.slo_name = :slo
    join outcomes o on o.tenant_id = :tenant and o.decided_at = touched.decided_at
        and o.decision_id = touched.decision_id and o.score is not null
        and coalesce(o.error, '') = ''
    left join lateral (
        select case when keep then coalesce(cast(evidence ->> 'best' as integer), a.attempt)
            else a.attempt + 1 end as attempt
        from attempts a
        where a.tenant_id = :tenant and a.decided_at = o.decided_at
            and a.decision_id = o.decision_id and a.occurred_at <= o.occurred_at + :continued
        order by a.attempt desc limit 1
    ) kept on true
    where o.attempt = coalesce(kept.attempt, o.attempt)
)
select distinct on (counted, decision_id)
    decision_id, decided_at, slo_version, policy_version, propensity, explored, novelty, attempt,
    avg(score) over (partition by decision_id, attempt) as score, counted, model, (
        select cast(predictions -> 'accuracy' ->> cast(place.index - 1 as integer) as real)
        from jsonb_array_elements_text(predictions -> 'arms') with ordinality place (name, index)
        where place.name = arm limit 1
    ) as expected
from scored where counted >= :since and counted < :until and arrival <= counted
order by counted, decision_id, attempt desc
"""
# A turn ends with the transaction that brings the last row which it may look at.
CUT = """
select least(
    :until,
    (select arrival + 1 from outcomes where tenant_id = :tenant and arrival >= :since
        and arrival < :until and score is not null order by arrival offset :scores limit 1),
    (select arrival + 1 from decisions where tenant_id = :tenant and slo_name = :slo
        and arrival >= :since and arrival < :until order by arrival offset :decisions limit 1)
)
"""
DECISIONS_PER_SCORE = 10


class PostgresArrivals:
    """The Arrivals seam; the router's role or the trainer's will do."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def horizon(self) -> int:
        """As the seam says."""
        with transaction(self._engine) as connection:
            return _horizon(connection)

    def fresh_outcomes(
        self, tenant_id: UUID, slo_name: str, since: int, until: int, limit: int = 10_000
    ) -> Fresh:
        """As the seam says."""
        with tenant_scope(self._engine, tenant_id) as connection:
            horizon = _horizon(connection)
            turn: dict[str, Any] = {"tenant": tenant_id, "slo": slo_name, "since": since}
            ends = min(until, horizon)
            if since >= ends:
                return Fresh(outcomes=(), decisions={}, until=min(since, horizon))
            turn["until"] = _cut(connection, turn | {"until": ends}, limit)
            found = connection.execute(text(FRESH), turn | {"continued": CONTINUED_WITHIN})
            rows = found.mappings().all()
            counts = connection.execute(text(DECISIONS), turn | {"novel": NOVEL}).all()
        return Fresh(
            outcomes=[_fresh(row) for row in rows],
            decisions={tuple(kind): int(count) for *kind, count in counts},
            until=turn["until"],
        )


def _cut(connection: Connection, turn: dict[str, Any], limit: int) -> int:
    """Where a turn ends that looks at no more scores than the limit, and a share of decisions."""
    most = {"scores": limit - 1, "decisions": limit * DECISIONS_PER_SCORE - 1}
    return int(connection.scalar(text(CUT), turn | most) or 0)


def _horizon(connection: Connection) -> int:
    return int(connection.scalar(text(HORIZON)) or 0)


def _fresh(row: Any) -> FreshOutcome:
    return FreshOutcome(**{name: row[name] for name in FreshOutcome.__slots__})
