"""Databases whose logs have past months, and archives of them that may be killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from router.ids import uuid7
from router.store.archive_files import ArchiveDirectory
from router.store.archiving import Archiver
from router.store.shipping import copy_into_logs
from tests.kit.postgres import rows
from tests.kit.records import attempt, decision, outcome
from tests.kit.server import Admin

LOGS = ("decisions", "attempts", "outcomes")


def with_months(dsn: str, first: datetime, count: int) -> None:
    """Gives a database partitions of past months, from the first one on."""
    with psycopg.connect(dsn, options="-c role=leadline_owner") as connection:
        for log in LOGS:
            connection.execute(f"alter table {log} detach partition {log}_history".encode())
            connection.execute(f"drop table {log}_history".encode())
            start = first
            for _ in range(count):
                end = (start + timedelta(days=32)).replace(day=1)
                bounds = [f"'{each.isoformat()}'" for each in (start, end)]
                part = f"{log}_{start:%Y_%m}"
                connection.execute("select add_partition(%s, %s, %s, %s)", (log, part, *bounds))
                start = end


def fill(dsn: str, start: datetime, count: int, *tenants: str) -> Mapping[str, UUID]:
    """A decision an hour of each tenant, with an attempt and two outcomes; who they are."""
    with Admin(dsn) as admin:
        for name in tenants:
            if admin.tenants.identify(name) is None:
                admin.tenants.create(name, actor="test")
        named = {each.name: each.tenant_id for each in admin.tenants.tenants()}
    records = []
    for name in tenants:
        for number in range(count):
            at = start + timedelta(hours=number)
            made = decision(named[name], decision_id=uuid7(at), query=f"{name} asks {number}")
            told = [
                outcome(made, occurred_at=at, score=0.5, source=source)
                for source in ("judge", "feedback")
            ]
            records += [made, attempt(made), *told]
    ship(dsn, *records)
    return named


def ship(dsn: str, *records: Any) -> None:
    """Brings records into the tables as the shipper does."""
    payloads = [(record.kind.value, record.row.decode()) for record in records]
    with psycopg.connect(dsn, options="-c role=leadline_shipper") as connection:
        copy_into_logs(connection, payloads)


def archiver(
    dsn: str, directory: Path, reached: Callable[[str], None] = lambda _: None
) -> Archiver:
    """An archiver of a database."""
    return Archiver(dsn, ArchiveDirectory(directory), reached)


@dataclass(kw_only=True)
class Killing:
    """Hears of steps and is killed at the one of a number, as by kill -9 where `hard`."""

    number: int
    hard: bool = False
    heard: int = 0

    def __call__(self, _step: str) -> None:
        if self.heard == self.number:
            if self.hard:
                os.kill(os.getpid(), signal.SIGKILL)
            raise KeyboardInterrupt
        self.heard += 1


def archive_killed(dsn: str, directory: str, number: int) -> None:
    """Archives the oldest month in this process, which ends at the step of a number."""
    with archiver(dsn, Path(directory), Killing(number=number, hard=True)) as found:
        for month in found.months()[:1]:
            found.archive(month, drop=True)


def everything(dsn: str, directory: Path) -> dict[str, list[str]]:
    """The ids of all that is there of each log, in Postgres or vouched for by the archive."""
    keys = {"decisions": "decision_id", "attempts": "attempt_id", "outcomes": "outcome_id"}
    found = {
        log: [str(each) for (each,) in rows(dsn, f"select {key} from {log}")]
        for log, key in keys.items()
    }
    archive = ArchiveDirectory(directory)
    for month in archive.months():
        for file in month.files:
            if file.table in keys and not _attached(dsn, f"{file.table}_{month.month}"):
                for batch in archive.read(file):
                    found[file.table] += batch.column(keys[file.table]).to_pylist()
    return {log: sorted(each) for log, each in found.items()}


def _attached(dsn: str, partition: str) -> bool:
    query = "select 1 from pg_inherits where inhrelid = to_regclass(%s)"
    return bool(rows(dsn, query, partition.replace("-", "_")))
