"""The logs' tables as an archive holds them: their columns, keys and counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy import Connection, Engine, text
from sqlalchemy.dialects.postgresql import JSONB

from router.errors import InvalidInput
from router.store.archive_files import KEYS_SQL, ArchiveDirectory
from router.store.attempts import SCHEMA as INTERACTIONS
from router.store.engine import transaction
from router.store.tables import LOGS

TABLES = {table.name: table for table in LOGS.values()}
TIMES = {"decisions": "occurred_at", "attempts": "decided_at", "outcomes": "decided_at"}
KEYS = {
    "decisions": ("decision_id",),
    "attempts": ("decision_id", "attempt"),
    "outcomes": ("outcome_id",),
    "interactions": ("decision_id", "attempt"),
}
ATTACHED = "select cast(cast(inhrelid as regclass) as text) from pg_inherits"
_TYPES: tuple[tuple[Any, pa.DataType], ...] = (
    (sa.DateTime, pa.timestamp("us", tz="UTC")),
    (sa.Boolean, pa.bool_()),
    (sa.Integer, pa.int64()),
    (sa.Float, pa.float64()),
)


def counted(
    connection: Connection,
    relation: str,
    table: str,
    names: Mapping[UUID, str],
    month: tuple[datetime, datetime] | None = None,
) -> Mapping[str, tuple[int, str]]:
    """The rows of each tenant in a relation, all or a month's, and the digest of their keys."""
    key = " || ':' || ".join(f"cast({column} as text)" for column in KEYS[table])
    query = (
        f"select tenant_id, count(*), {KEYS_SQL.format(key=key)} from {relation} "  # noqa: S608
        "where cast(:low as timestamptz) is null "
        f"or ({TIMES[table]} >= cast(:low as timestamptz) "
        f"and {TIMES[table]} < cast(:high as timestamptz)) group by tenant_id"
    )
    low, high = month or (None, None)
    found = connection.execute(text(query), {"low": low, "high": high})
    return {names.get(tenant_id, str(tenant_id)): (rows, keys) for tenant_id, rows, keys in found}


def schema(table: str) -> pa.Schema:
    """The columns of a table's files; ids and JSON are text."""
    if table == "interactions":
        return INTERACTIONS
    return pa.schema([pa.field(each.name, _type(each.type)) for each in TABLES[table].columns])


def _type(column: Any) -> pa.DataType:
    return next((found for kind, found in _TYPES if isinstance(column, kind)), pa.string())


def selected(table: str) -> str:
    """The query of a tenant's rows from `low` until before `high`."""
    columns = ", ".join(
        f"cast({each.name} as text) as {each.name}"
        if isinstance(each.type, JSONB | sa.Uuid)
        else each.name
        for each in TABLES[table].columns
    )
    return (
        f"select {columns} from {table} where tenant_id = :tenant and {TIMES[table]} >= :low "  # noqa: S608
        f"and {TIMES[table]} < :high order by {', '.join((TIMES[table], *KEYS[table]))}"
    )


def archived_attempts(engine: Engine, root: Path | None) -> Iterator[pa.RecordBatch]:
    """What `router.store.attempts` read of months that were detached, oldest first.

    A month that is still attached is in Postgres. None without a root. Raises InvalidInput
    where there is no archive.
    """
    if root is None:
        return
    archive = ArchiveDirectory(root)
    months = archive.months()
    if not months:
        raise InvalidInput(f"{root} is no archive; 'leadline db archive' makes one")
    with transaction(engine) as connection:
        attached = set(connection.execute(text(ATTACHED)).scalars())
    for month in months:
        for file in month.files:
            part = f"decisions_{month.month}".replace("-", "_")
            if file.table == "interactions" and part not in attached:
                yield from archive.read(file)
