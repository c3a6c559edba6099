"""Attempts with every score that was reported of them: what training makes targets of."""

from __future__ import annotations

from collections.abc import Generator
from datetime import datetime
from uuid import UUID

import pyarrow as pa
from sqlalchemy import Engine

from router.store.batches import streamed
from router.store.interactions import KNOWN
from router.store.interactions import SCHEMA as LOG

SCHEMA = pa.schema(
    [
        *LOG,
        pa.field("attempt", pa.int64(), nullable=False),
        pa.field("slo_name", pa.string()),
        pa.field("labels", pa.string()),
        pa.field("predicted_accuracy", pa.float64()),
        pa.field("novelty", pa.float64()),
        pa.field("imported", pa.bool_(), nullable=False),
        pa.field("failed", pa.bool_(), nullable=False),
        pa.field("sources", pa.list_(pa.string())),
        pa.field("scores", pa.list_(pa.float64())),
        pa.field("delays_s", pa.list_(pa.float64())),
        pa.field("subject", pa.string()),
    ]
)
"""The outcome log's columns, without a score, and what targets need besides.

`failed` tells that the newest report which ran the backend has an error. `sources` names
each source once, `scores` has its mean score, `delays_s` how long after the decision its
first one was known. `predicted_accuracy` is the picked arm's at the time. `subject` is a
hash of the tenant and who asked it, or of the conversation where nobody was named.
"""

# What happened before a place in the order of arrival, so that a second read finds the same.
# An attempt is there once anything was reported of it; the first one always is.
_KNOWN = f"""
with reported as not materialized (
    select * from outcomes
    where (cast(:tenant as uuid) is null or tenant_id = cast(:tenant as uuid))
        and (cast(:since as timestamptz) is null or decided_at >= cast(:since as timestamptz))
        and (cast(:until as timestamptz) is null or decided_at < cast(:until as timestamptz))
        and (cast(:before as bigint) is null or coalesce(arrival, 0) < cast(:before as bigint))
), known as (
    select tenant_id, decided_at, decision_id, attempt, {KNOWN},
        (array_agg(coalesce(error, '') <> '' order by occurred_at desc, outcome_id desc) filter (
            where coalesce(error, '') <> '' or latency_s is not null or cost_usd is not null
                or output_tokens is not null
        ))[1] as failed
    from reported group by tenant_id, decided_at, decision_id, attempt
), each_source as (
    select tenant_id, decided_at, decision_id, attempt, coalesce(source, 'unspecified') as source,
        avg(score) as score,
        cast(extract(epoch from min(occurred_at) - decided_at) as double precision) as delay_s
    from reported where score is not null and coalesce(error, '') = ''
    group by tenant_id, decided_at, decision_id, attempt, coalesce(source, 'unspecified')
), heard as (
    select tenant_id, decided_at, decision_id, attempt, array_agg(source order by source)
        as sources, array_agg(score order by source) as scores,
        array_agg(delay_s order by source) as delays_s
    from each_source group by tenant_id, decided_at, decision_id, attempt
)"""  # noqa: S608
_DECIDED = """, decided as not materialized (
    select * from decisions
    where (cast(:tenant as uuid) is null or tenant_id = cast(:tenant as uuid))
        and (cast(:since as timestamptz) is null or occurred_at >= cast(:since as timestamptz))
        and (cast(:until as timestamptz) is null or occurred_at < cast(:until as timestamptz))
        and (cast(:before as bigint) is null or coalesce(arrival, 0) < cast(:before as bigint))
), made as (
    select tenant_id, occurred_at as decided_at, decision_id, 0 as attempt from decided
    union all
    select tenant_id, decided_at, decision_id, attempt from known where attempt > 0
)"""
_ROWS = """
select d.query_id, d.query,
    case made.attempt when 0 then d.model else coalesce(own.model, arms.model) end as model,
    case made.attempt when 0 then d.strategy else coalesce(own.strategy, arms.strategy) end
        as strategy,
    cast(case made.attempt when 0 then d.params else coalesce(own.params, arms.params) end as text)
        as strategy_params,
    cast(null as double precision) as score, known.cost_usd, known.latency_s,
    known.input_tokens, known.output_tokens,
    coalesce(known.confidence, cast(own.evidence ->> 'confidence' as double precision))
        as confidence,
    d.dataset, tenants.name as tenant, d.occurred_at,
    case made.attempt when 0 then d.propensity else 1.0 end as propensity,
    cast(d.decision_id as text) as decision_id, made.attempt, d.slo_name,
    cast(d.labels as text) as labels,
    case made.attempt when 0 then cast(d.predictions -> 'accuracy' ->> place.index as real) end
        as predicted_accuracy,
    d.novelty, d.policy_source = 'import' as imported, coalesce(known.failed, false) as failed,
    heard.sources, heard.scores, heard.delays_s,
    encode(sha256(convert_to(cast(made.tenant_id as text) || ' ' || coalesce(
        'subject ' || d.subject, 'conversation ' || d.conversation_id
    ), 'UTF8')), 'hex') as subject
from made
join decided d on d.tenant_id = made.tenant_id and d.occurred_at = made.decided_at
    and d.decision_id = made.decision_id
left join known on known.tenant_id = made.tenant_id and known.decided_at = made.decided_at
    and known.decision_id = made.decision_id and known.attempt = made.attempt
left join heard on heard.tenant_id = made.tenant_id and heard.decided_at = made.decided_at
    and heard.decision_id = made.decision_id and heard.attempt = made.attempt
left join attempts own on own.tenant_id = made.tenant_id and own.decided_at = made.decided_at
    and own.decision_id = made.decision_id and own.attempt = made.attempt
left join attempts before on before.tenant_id = made.tenant_id
    and before.decided_at = made.decided_at and before.decision_id = made.decision_id
    and before.attempt = made.attempt - 1
left join arms on arms.key = before.next_arm
left join tenants on tenants.tenant_id = made.tenant_id
left join lateral (
    select cast(each.place - 1 as integer) as index
    from jsonb_array_elements_text(d.predictions -> 'arms') with ordinality as each (key, place)
    where each.key = d.arm limit 1
) place on true
where case made.attempt when 0 then d.model else coalesce(own.model, arms.model) end is not null
order by d.occurred_at, made.tenant_id, d.decision_id, made.attempt
"""
QUERY = _KNOWN + _DECIDED + _ROWS


def attempts(
    engine: Engine,
    *,
    tenant_id: UUID | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    before: int | None = None,
    batch_rows: int = 10_000,
) -> Generator[pa.RecordBatch, None, None]:
    """One row of SCHEMA per attempt, scored or not, in the order of decisions; streams.

    Of decisions made at `since` or later, and before `until`, where they are given.

    `before` is a place in the order of arrival (`Arrivals.horizon`): what arrived from it on
    is not read, so that the same place gives the same rows as long as none is erased. For
    the trainer's role.
    """
    parameters = {"tenant": tenant_id, "since": since, "until": until, "before": before}
    return streamed(engine, QUERY, parameters, SCHEMA, batch_rows)
