"""Interactions in the outcome-log format: out for training, in for history."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import psycopg
import pyarrow as pa
from sqlalchemy import Engine

from router.errors import ConfigurationError, InvalidInput
from router.ids import derived_uuid7, time_of
from router.store.batches import streamed
from router.store.engine import transaction
from router.store.seams import Kind
from router.store.shipping import copy_into_logs
from router.types import Arm, PolicySource

SCHEMA = pa.schema(
    [
        pa.field("query_id", pa.string(), nullable=False),
        pa.field("query", pa.string()),
        pa.field("model", pa.string(), nullable=False),
        pa.field("strategy", pa.string(), nullable=False),
        pa.field("strategy_params", pa.string()),
        pa.field("score", pa.float64()),
        pa.field("cost_usd", pa.float64()),
        pa.field("latency_s", pa.float64()),
        pa.field("input_tokens", pa.int64()),
        pa.field("output_tokens", pa.int64()),
        pa.field("confidence", pa.float64()),
        pa.field("dataset", pa.string()),
        pa.field("tenant", pa.string()),
        pa.field("occurred_at", pa.timestamp("us", tz="UTC")),
        pa.field("propensity", pa.float64()),
        pa.field("decision_id", pa.string()),
    ]
)

LAST_KNOWN = (
    "(array_agg({0} order by occurred_at desc, outcome_id desc) filter (where {0} is not null))[1] "
    "as {0}"
)
KNOWN = ", ".join(
    LAST_KNOWN.format(column)
    for column in ("cost_usd", "latency_s", "input_tokens", "output_tokens", "confidence")
)
# An attempt's arm is in its own row once Continue was called after it; before, it is the
# next arm of the attempt before it.
EXPORT = f"""
with known as (
    select tenant_id, decided_at, decision_id, attempt,
        avg(score) filter (where coalesce(error, '') = '') as score, {KNOWN}
    from outcomes
    where (cast(:tenant as uuid) is null or tenant_id = cast(:tenant as uuid))
        and (cast(:since as timestamptz) is null or decided_at >= cast(:since as timestamptz))
    group by tenant_id, decided_at, decision_id, attempt
), placed as (
    select known.*, d.query_id, d.query, d.dataset, d.propensity as first_propensity,
        case known.attempt when 0 then d.model else coalesce(own.model, arms.model) end as model,
        case known.attempt when 0 then d.strategy else coalesce(own.strategy, arms.strategy) end
            as strategy,
        case known.attempt when 0 then d.params else coalesce(own.params, arms.params) end
            as params,
        cast(own.evidence ->> 'confidence' as double precision) as shown_confidence
    from known
    join decisions d on d.tenant_id = known.tenant_id and d.occurred_at = known.decided_at
        and d.decision_id = known.decision_id
        and (cast(:slo_name as text) is null or d.slo_name = cast(:slo_name as text))
    left join attempts own on own.tenant_id = known.tenant_id
        and own.decided_at = known.decided_at and own.decision_id = known.decision_id
        and own.attempt = known.attempt
    left join attempts before on before.tenant_id = known.tenant_id
        and before.decided_at = known.decided_at and before.decision_id = known.decision_id
        and before.attempt = known.attempt - 1
    left join arms on arms.key = before.next_arm
)
select query_id, query, model, strategy, cast(params as text) as strategy_params, score, cost_usd,
    latency_s, input_tokens, output_tokens, coalesce(confidence, shown_confidence) as confidence,
    dataset, tenants.name as tenant, decided_at as occurred_at,
    case attempt when 0 then first_propensity else 1.0 end as propensity,
    cast(decision_id as text) as decision_id
from placed left join tenants using (tenant_id)
where model is not null and strategy is not null
order by decided_at, tenant_id, decision_id, attempt
"""  # noqa: S608

EPOCH = datetime.fromtimestamp(0, UTC)


def export(
    engine: Engine,
    *,
    tenant_id: UUID | None = None,
    slo_name: str | None = None,
    since: datetime | None = None,
    batch_rows: int = 10_000,
) -> Generator[pa.RecordBatch, None, None]:
    """One row per attempt that has an outcome, in the order of decisions; for the trainer's role.

    Of one tenant, of one slo's name, and decided at `since` or later, where they are given.
    A later attempt's propensity is 1: given the evidence before it, its arm was certain.
    Streams: memory holds one batch. Several outcomes of an attempt give the mean score
    and the last known of the rest; an outcome with an error gives no score.
    """
    parameters = {"tenant": tenant_id, "slo_name": slo_name, "since": since}
    return streamed(engine, EXPORT, parameters, SCHEMA, batch_rows)


def import_rows(
    engine: Engine, tenant_id: UUID, batches: Iterable[pa.RecordBatch], now: datetime
) -> int:
    """Imports an outcome log as decisions with an outcome each; for the shipper's role.

    The batches are validated already. Ids follow from the rows, so importing twice doubles
    nothing. A row that tells no time is put at the Unix epoch, its outcome at `now`.
    Returns how many rows were new. Each batch is one transaction.
    """
    new = 0
    for batch in batches:
        payloads = [payload for row in batch.to_pylist() for payload in _rows(row, tenant_id, now)]
        if not payloads:
            continue
        with transaction(engine) as connection:
            driver = connection.connection.driver_connection
            if not isinstance(driver, psycopg.Connection):
                raise ConfigurationError("importing needs psycopg; set LEADLINE_DSN to Postgres")
            new += _copy(driver, payloads)
    return new


def _copy(driver: psycopg.Connection[Any], payloads: list[tuple[str, str]]) -> int:
    try:
        return copy_into_logs(driver, payloads)[Kind.DECISION]
    except psycopg.DataError as error:
        raise InvalidInput(
            f"Postgres refuses a value ({type(error).__name__}); look for NUL characters and "
            "numbers that are too large",
            field="log",
        ) from error


def _rows(row: dict[str, Any], tenant_id: UUID, now: datetime) -> list[tuple[str, str]]:
    arm = Arm(
        model=row["model"],
        strategy=row["strategy"],
        params=orjson.loads(row.get("strategy_params") or "{}"),
    )
    told = _told(row.get("occurred_at"))
    parts = [str(tenant_id), row["query_id"], arm.key, str(row.get("sample_idx") or 0), str(told)]
    decision_id = derived_uuid7(told or EPOCH, *parts)
    at = time_of(decision_id)
    decision = {
        "tenant_id": tenant_id,
        "decision_id": decision_id,
        "occurred_at": at,
        "query_id": row["query_id"],
        "query": row["query"],
        "dataset": row.get("dataset"),
        "policy_version": 0,
        "policy_source": PolicySource.IMPORT,
        "arm": arm.key,
        "model": arm.model,
        "strategy": arm.strategy,
        "params": arm.params,
        "input_tokens": _count(row.get("input_tokens")),
        "propensity": row.get("propensity"),
    }
    outcome = {
        "tenant_id": tenant_id,
        "outcome_id": derived_uuid7(at, "outcome", str(decision_id)),
        "decision_id": decision_id,
        "decided_at": at,
        "occurred_at": told or now,
        "attempt": 0,
        "source": "import",
        "input_tokens": _count(row.get("input_tokens")),
        "output_tokens": _count(row.get("output_tokens")),
        **{name: row.get(name) for name in OUTCOME_COLUMNS},
    }
    return [
        (kind.value, orjson.dumps(value).decode())
        for kind, value in ((Kind.DECISION, decision), (Kind.OUTCOME, outcome))
    ]


OUTCOME_COLUMNS = (
    "score",
    "cost_usd",
    "latency_s",
    "confidence",
    "answer",
)


def _told(at: datetime | None) -> datetime | None:
    return at.replace(tzinfo=UTC) if at is not None and at.tzinfo is None else at


def _count(value: float | None) -> int | None:
    """Tables made with pandas hold counts as floats, NaN for the missing."""
    return None if value is None or math.isnan(value) else round(value)
