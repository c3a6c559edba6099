"""What the watcher asks of Postgres: to be the only one, and what has come of decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pyarrow as pa
from sqlalchemy import Engine, text

from router.errors import Unavailable
from router.store.batches import batch_of
from router.store.engine import tenant_scope
from router.store.places import Place

WATCHER_LOCK = 7_166_083
MOST_ROWS = 20_000

SCHEMA = pa.schema(
    [
        pa.field("query_id", pa.string()),
        pa.field("query", pa.string()),
        pa.field("model", pa.string()),
        pa.field("strategy", pa.string()),
        pa.field("strategy_params", pa.string()),
        pa.field("score", pa.float64()),
        pa.field("propensity", pa.float64()),
        pa.field("occurred_at", pa.timestamp("us", tz="UTC")),
        pa.field("decision_id", pa.string()),
    ]
)

# What the first arm's answer scored. Where only a later attempt's score is known, the first
# answer was given up, and counts as wrong: to leave it out would flatter its arm.
SCORED = """
select d.query_id, d.query, d.model, d.strategy, cast(d.params as text) as strategy_params,
    coalesce(o.score, 0) as score, d.propensity, d.occurred_at,
    cast(d.decision_id as text) as decision_id, d.novelty
from decisions d
cross join lateral (
    select count(*) as scores, avg(score) filter (where attempt = 0) as score
    from outcomes
    where tenant_id = d.tenant_id and decided_at = d.occurred_at
        and decision_id = d.decision_id and score is not null and coalesce(error, '') = ''
) o
where d.tenant_id = :tenant and d.occurred_at > :since and d.propensity > 0
    and d.query is not null and d.slo_name = :slo and o.scores > 0
order by d.occurred_at desc, d.decision_id desc
limit :most
"""
SCORED_SINCE = """
select count(distinct o.decision_id) from outcomes o
join decisions d on d.tenant_id = o.tenant_id and d.occurred_at = o.decided_at
    and d.decision_id = o.decision_id
where o.tenant_id = :tenant and o.arrival >= :since and o.arrival < :until
    and o.score is not null and d.slo_name = :slo and d.propensity > 0
"""
# A reporter's clock may stand ahead; a decision's own time bounds what waits on that.
UNSETTLED = """
select min(o.arrival) from outcomes o
join decisions d on d.tenant_id = o.tenant_id and d.occurred_at = o.decided_at
    and d.decision_id = o.decision_id
where o.tenant_id = :tenant and o.arrival >= :since and o.arrival < :until
    and o.score is not null and least(o.occurred_at, d.occurred_at + :answered) > :after
    and d.slo_name = :slo and d.should_continue
"""
ANSWERED_WITHIN = timedelta(minutes=10)


def took_too_long(error: Unavailable) -> bool:
    """Whether a statement ran into its timeout, so that Postgres itself is not away."""
    cause = getattr(error.__cause__, "orig", error.__cause__)
    return isinstance(cause, psycopg.errors.QueryCanceled)


class OneWatcher(Place):
    """The place of a database's only watcher."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn, WATCHER_LOCK, "leadline watcher")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredRows:
    """Interactions in the outcome log's columns; `novelty` of each, None where it is unknown."""

    batch: pa.RecordBatch
    novelty: Sequence[float | None]

    def __len__(self) -> int:
        return int(self.batch.num_rows)


class PostgresWatching:
    """Reads what certificates and monitors count, one tenant at a time; the trainer's role."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def scored(
        self, tenant_id: UUID, slo_name: str, since: datetime, most: int = MOST_ROWS
    ) -> ScoredRows:
        """The slo's newest scored decisions made after `since` with a propensity, newest first.

        The score is the first arm's; 0 where that answer was given up and only a later one
        was scored.
        """
        asked = {"tenant": tenant_id, "slo": slo_name, "since": since, "most": most}
        with tenant_scope(self._engine, tenant_id) as connection:
            rows = connection.execute(text(SCORED), asked).all()
        columns = list(zip(*rows, strict=True)) or [()] * (len(SCHEMA) + 1)
        return ScoredRows(batch=batch_of(columns[:-1], SCHEMA), novelty=columns[-1])

    def scored_since(self, tenant_id: UUID, slo_name: str, since: int, until: int) -> int:
        """How many decisions with a propensity got a score between two places of arrival."""
        asked = {"tenant": tenant_id, "slo": slo_name, "since": since, "until": until}
        with tenant_scope(self._engine, tenant_id) as connection:
            return int(connection.scalar(text(SCORED_SINCE), asked) or 0)

    def settled(
        self, tenant_id: UUID, slo_name: str, since: int, until: int, after: datetime
    ) -> int:
        """The place, `until` at most, before which it is known which answers were kept.

        Scores that were reported later than `after` of decisions with several attempts wait,
        and what arrived behind them; those dated ahead no longer than ten minutes from the
        decision.
        """
        asked: dict[str, Any] = {"tenant": tenant_id, "slo": slo_name, "since": since}
        asked |= {"until": until, "answered": ANSWERED_WITHIN}
        with tenant_scope(self._engine, tenant_id) as connection:
            first = connection.scalar(text(UNSETTLED), asked | {"after": after})
        return until if first is None else int(first)
