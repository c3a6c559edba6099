"""Months of the logs that go from Postgres to an archive: written, detached, and dropped.

A month is written and read back, then vouched for; its partitions are detached once Postgres,
with nobody writing to them, counts the same rows by the same keys; and dropped once files and
partitions still agree. Each step is whole or not done, so that a run which was killed is
finished by the next one. Reports that come later for a detached month stay in Postgres.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Self
from uuid import UUID

import psycopg
import pyarrow as pa
from sqlalchemy import Connection, Engine, text

from router.errors import Conflict, Unavailable
from router.store.archive_files import ArchivedFile, ArchiveDirectory, ArchivedMonth
from router.store.archived_rows import KEYS, TABLES, counted, schema, selected
from router.store.attempts import attempts
from router.store.batches import streamed
from router.store.engine import DatabaseRole, connect, transaction
from router.store.places import TRAINER_LOCK, Place

WRITES, TRIES, PAUSE_S = 3, 20, 0.5
LONGEST_S = 3_600.0

PARTITIONS = """
select c.relname, exists (select from pg_inherits i where i.inhrelid = c.oid) as attached
from pg_class c where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace
    and c.relname ~ '^(decisions|attempts|outcomes)_[0-9]{4}_[0-9]{2}$'
"""


class Step(StrEnum):
    """What a run did last to a month."""

    DETACHED = "detached"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """A month of the logs, and which of its partitions are there."""

    start: datetime
    attached: frozenset[str]
    detached: frozenset[str]

    @property
    def name(self) -> str:
        """As "2026-01"."""
        return f"{self.start:%Y-%m}"

    @property
    def end(self) -> datetime:
        """The start of the next month."""
        return (self.start + timedelta(days=32)).replace(day=1)

    def part(self, table: str) -> str:
        """The name of the month's partition of a table."""
        return f"{table}_{self.start:%Y_%m}"


class OneArchiver(Place):
    """The place of a database's only run that archives or erases; none trains meanwhile."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn, TRAINER_LOCK, "leadline archive")


class Alone:
    """The only run that archives or erases, with engines of two roles while it has the place.

    Entering raises Conflict where another one has it.
    """

    def __init__(self, dsn: str, owner: DatabaseRole | None, application_name: str) -> None:
        """The `owner` drops and erases; None is the user of the DSN."""
        self._place = OneArchiver(dsn)
        self._owner, self._trainer = (
            connect(
                dsn, role=role, application_name=application_name, statement_timeout_s=LONGEST_S
            )
            for role in (owner, DatabaseRole.TRAINER)
        )

    def __enter__(self) -> Self:
        if not self._place.holds():
            self.__exit__()
            raise Conflict("another run trains, archives or erases; try again when it has ended")
        return self

    def __exit__(self, *_: object) -> None:
        self._place.close()
        self._owner.dispose()
        self._trainer.dispose()


class Archiver(Alone):
    """Takes a database's months into an archive; one at a time on a database.

    `reached` hears of each step before and after it is done, for progress and for tests.
    """

    def __init__(
        self, dsn: str, directory: ArchiveDirectory, reached: Callable[[str], None]
    ) -> None:
        super().__init__(dsn, None, "leadline archive")
        self._directory, self._reached = directory, reached

    def months(self) -> list[Month]:
        """The months whose partitions are there, oldest first."""
        return months_of(self._trainer)

    def archive(self, month: Month, *, drop: bool) -> Step | None:
        """Brings a month as far as it goes; None where there is nothing to do."""
        done: Step | None = None
        if month.attached:
            self._detach(month)
            done = Step.DETACHED
        if drop and (month.attached or month.detached):
            self._drop(month)
            done = Step.DROPPED
        return done

    def _detach(self, month: Month) -> None:
        """Writes a month until Postgres agrees, and detaches it. Raises Conflict."""
        for _ in range(WRITES):
            if self._detached(month):
                self._reached(f"detached {month.name}")
                return
            self._write(month)
        if not self._detached(month):
            raise Conflict(
                f"rows of {month.name} still arrive, or belong to no tenant; try again later"
            )

    def _write(self, month: Month) -> None:
        self._reached(f"writing {month.name}")
        self._directory.tidy(month.name)
        files = [each for each in self._files(month) if each is not None]
        self._reached(f"vouching {month.name}")
        self._directory.vouch(ArchivedMonth(month=month.name, files=tuple(files)))

    def _files(self, month: Month) -> Iterator[ArchivedFile | None]:
        for tenant_id, name in self._tenants().items():
            for table, key in KEYS.items():
                self._reached(f"writing {month.name} {table}")
                yield self._directory.write(
                    self._rows(table, tenant_id, month),
                    schema(table),
                    table=table,
                    tenant=name,
                    month=month.name,
                    key=key,
                )

    def _rows(self, table: str, tenant_id: UUID, month: Month) -> Iterator[pa.RecordBatch]:
        """A tenant's rows of a table; interactions are read last, so that none is newer."""
        if table == "interactions":
            return attempts(self._trainer, tenant_id=tenant_id, since=month.start, until=month.end)
        parameters = {"tenant": tenant_id, "low": month.start, "high": month.end}
        return streamed(self._trainer, selected(table), parameters, schema(table), 10_000)

    def _tenants(self) -> Mapping[UUID, str]:
        with transaction(self._trainer) as connection:
            return dict(iter(connection.execute(text("select tenant_id, name from tenants"))))

    def _detached(self, month: Month) -> bool:
        """Detaches a month that Postgres and the archive agree on; False where they don't."""
        known = self._directory.month(month.name)
        if known is None:
            return False
        self._directory.check(known)
        names = self._tenants()
        self._reached(f"detaching {month.name}")
        for place in range(TRIES):
            try:
                with transaction(self._owner) as connection:
                    return _detach(connection, month, known, names)
            except Unavailable as error:
                if not _locked(error) or place + 1 == TRIES:
                    raise
                time.sleep(PAUSE_S)
        return False

    def _drop(self, month: Month) -> None:
        """Drops a month's detached partitions. Raises Conflict where the archive lacks a row."""
        known = self._directory.month(month.name)
        if known is None:
            raise Conflict(f"{month.name} is not in this archive; name the one that it is in")
        self._directory.check(known)
        self._reached(f"dropping {month.name}")
        names, there = self._tenants(), month.attached | month.detached
        with transaction(self._owner) as connection:
            connection.execute(text("set local role leadline_owner"))
            connection.execute(text("set local lock_timeout = '5s'"))
            for table in TABLES:
                part = month.part(table)
                if part not in there:
                    continue
                connection.execute(text(f"alter table {part} no force row level security"))
                if counted(connection, part, table, names) != _vouched(known, table):
                    raise Conflict(
                        f"{part} has other rows than the archive; attach it again, and archive it"
                    )
                connection.execute(text(f"drop table {part}"))
        self._reached(f"dropped {month.name}")


def months_of(engine: Engine) -> list[Month]:
    """The months whose partitions are there, oldest first."""
    with transaction(engine) as connection:
        rows = connection.execute(text(PARTITIONS))
        found: dict[str, bool] = {row.relname: row.attached for row in rows}
    starts = {_start(name) for name in found}
    named = {start: {f"{table}_{start:%Y_%m}" for table in TABLES} for start in starts}
    return [
        Month(
            start=start,
            attached=frozenset(each for each in named[start] if found.get(each)),
            detached=frozenset(each for each in named[start] if found.get(each) is False),
        )
        for start in sorted(starts)
    ]


def _detach(
    connection: Connection, month: Month, known: ArchivedMonth, names: Mapping[UUID, str]
) -> bool:
    parts = {table: month.part(table) for table in TABLES if month.part(table) in month.attached}
    connection.execute(text("set local lock_timeout = '1s'"))
    connection.execute(text("set local role leadline_owner"))
    for part in parts.values():
        connection.execute(text(f"lock table {part} in share mode"))
    connection.execute(text("set local role leadline_trainer"))
    for table in parts:
        found = counted(connection, table, table, names, (month.start, month.end))
        if found != _vouched(known, table):
            return False
    connection.execute(text("set local role leadline_owner"))
    for table, part in parts.items():
        connection.execute(text(f"alter table {table} detach partition {part}"))
    return True


def _vouched(known: ArchivedMonth, table: str) -> Mapping[str, tuple[int, str]]:
    return {each.tenant: (each.rows, each.keys) for each in known.files if each.table == table}


def _start(partition: str) -> datetime:
    year, month = partition.rsplit("_", 2)[1:]
    return datetime(int(year), int(month), 1, tzinfo=UTC)


def _locked(error: Unavailable) -> bool:
    cause = getattr(error.__cause__, "orig", error.__cause__)
    return isinstance(cause, psycopg.errors.LockNotAvailable | psycopg.errors.DeadlockDetected)
