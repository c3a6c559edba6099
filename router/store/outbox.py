"""The outbox: records are safe on this machine before a reply leaves it."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from router.errors import ConfigurationError, Conflict, LeadlineError, OutboxFull, Unavailable
from router.settings import Durability
from router.store.outbox_file import (
    DAMAGED,
    NO_ROOM,
    RECORD_OVERHEAD_BYTES,
    open_for_writing,
    primary_code,
    wal_bytes,
)
from router.store.seams import Kind, Record

INSERT = """
insert into records (kind, tenant, key, row_id, digest, row, at, total)
values (?, ?, ?, ?, ?, ?, ?, coalesce((select total from records order by seq desc limit 1), 0) + ?)
on conflict do nothing
"""
SELECT = "select kind, tenant, key, row_id, digest, row from records where kind = ? and tenant = ?"
PENDING_BYTES = """
select coalesce((select total from records order by seq desc limit 1), 0)
     - (select total from progress)
"""
LONGEST_WAL_BYTES = 256 << 20
PUTS_BETWEEN_WAL_CHECKS = 1024


class SqliteOutbox:
    """The outbox of one worker, in one SQLite file that the shipper empties.

    `max_bytes` bounds the rows that have not been shipped. `clock` gives epoch seconds.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        durability: Durability = Durability.PROCESS,
        clock: Callable[[], float] = time.time,
        longest_wal_bytes: int = LONGEST_WAL_BYTES,
    ) -> None:
        self.path = path
        self._longest_wal_bytes = longest_wal_bytes
        self._max_bytes = max_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._puts = 0
        self._pending_bytes = 0
        with self._errors_with_meaning():
            self._connection: sqlite3.Connection | None = open_for_writing(path, durability)
            self._pending_bytes = self._count_pending_bytes()

    def put(self, record: Record) -> Record:
        """As the seam says; about 20 us."""
        with self._lock:
            try:
                self._keep_the_wal_short(1)
                return self._insert(self._open(), record)
            except sqlite3.Error as error:
                raise self._meaning(error) from error

    def put_many(self, records: Sequence[Record]) -> list[Record | LeadlineError]:
        """As the seam says."""
        if len(records) < 2:
            return [self._put_or_error(record) for record in records]
        with self._lock, self._errors_with_meaning():
            self._keep_the_wal_short(len(records))
            with self._transaction() as connection:
                return [self._insert_or_error(connection, record) for record in records]

    def _put_or_error(self, record: Record) -> Record | LeadlineError:
        try:
            return self.put(record)
        except LeadlineError as error:
            return error

    def find(self, kind: Kind, tenant_id: UUID, row_id: UUID) -> Record | None:
        """As the seam says."""
        return self._find("row_id", kind, tenant_id, row_id)

    def find_key(self, kind: Kind, tenant_id: UUID, key: UUID) -> Record | None:
        """As the seam says."""
        return self._find("key", kind, tenant_id, key)

    def pending_bytes(self) -> int:
        """The bytes that have not been shipped."""
        with self._lock, self._errors_with_meaning():
            return self._count_pending_bytes()

    def close(self) -> None:
        """As the seam says."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, whatever is raised: no later put may be acknowledged inside it."""
        connection, pending_bytes = self._open(), self._pending_bytes
        connection.execute("begin immediate")
        try:
            yield connection
            connection.execute("commit")
        except BaseException:
            self._pending_bytes = pending_bytes
            if connection.in_transaction:
                connection.execute("rollback")
            raise

    def _insert(self, connection: sqlite3.Connection, record: Record) -> Record:
        size = len(record.row) + RECORD_OVERHEAD_BYTES
        self._make_sure_of_room(size, record)
        inserted = connection.execute(
            INSERT,
            (
                record.kind,
                record.tenant_id.bytes,
                record.key.bytes,
                record.row_id.bytes,
                record.digest,
                record.row,
                self._clock(),
                size,
            ),
        ).rowcount
        if not inserted:
            return self._the_earlier_one(connection, record)
        self._pending_bytes += size
        return record

    def _insert_or_error(
        self, connection: sqlite3.Connection, record: Record
    ) -> Record | LeadlineError:
        try:
            return self._insert(connection, record)
        except LeadlineError as error:
            return error

    def _the_earlier_one(self, connection: sqlite3.Connection, record: Record) -> Record:
        earlier = first(connection, "key", record.kind, record.tenant_id, record.key)
        if earlier is None or earlier.digest != record.digest:
            raise Conflict(
                f"request_id {record.key} was used with another body; use a new request_id",
                reason="REQUEST_ID_REUSED",
            )
        return earlier

    def _make_sure_of_room(self, size: int, record: Record) -> None:
        if self._pending_bytes + size <= self._max_bytes:
            return
        self._pending_bytes = self._count_pending_bytes()
        if self._pending_bytes + size <= self._max_bytes:
            return
        if first(self._open(), "key", record.kind, record.tenant_id, record.key) is None:
            raise OutboxFull(
                f"the outbox holds {self._pending_bytes:,} of {self._max_bytes:,} bytes; "
                "bring Postgres back, or raise LEADLINE_OUTBOX_MAX_BYTES"
            )

    def _keep_the_wal_short(self, puts: int) -> None:
        """Does the shipper's work when there is none; between transactions only."""
        checks = self._puts // PUTS_BETWEEN_WAL_CHECKS
        self._puts += puts
        if self._puts // PUTS_BETWEEN_WAL_CHECKS == checks:
            return
        if wal_bytes(self.path) > self._longest_wal_bytes:
            self._open().execute("pragma wal_checkpoint(passive)")

    def _count_pending_bytes(self) -> int:
        (count,) = self._open().execute(PENDING_BYTES).fetchone()
        return int(count)

    def _find(self, column: str, kind: Kind, tenant_id: UUID, value: UUID) -> Record | None:
        with self._lock, self._errors_with_meaning():
            return first(self._open(), column, kind, tenant_id, value)

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise Unavailable("the outbox is closed: this worker is stopping; try again")
        return self._connection

    @contextmanager
    def _errors_with_meaning(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._meaning(error) from error

    def _meaning(self, error: sqlite3.Error) -> LeadlineError:
        code = primary_code(error)
        if code in NO_ROOM:
            return OutboxFull(
                f"the disk of the outbox {self.path} is full or fails ({error}); make room on it"
            )
        if code in DAMAGED:
            return ConfigurationError(f"the outbox {self.path} is damaged ({error}); start again")
        return Unavailable(f"the outbox {self.path} cannot be used now ({error}); try again")


def first(
    connection: sqlite3.Connection, column: str, kind: Kind, tenant_id: UUID, value: UUID
) -> Record | None:
    """The record with this value in the column, which is `key` or `row_id`."""
    found = connection.execute(
        f"{SELECT} and {column} = ? limit 1", (kind, tenant_id.bytes, value.bytes)
    ).fetchone()
    if found is None:
        return None
    return Record(
        kind=Kind(found[0]),
        tenant_id=UUID(bytes=found[1]),
        key=UUID(bytes=found[2]),
        row_id=UUID(bytes=found[3]),
        digest=found[4],
        row=found[5],
    )
