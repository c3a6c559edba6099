"""The shipper's two ends: the file that it empties and the tables that it fills."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg import sql

from router.store.engine import DatabaseRole, connect_raw
from router.store.outbox_file import Holding, Pending, open_for_shipping, wal_bytes
from router.store.seams import Kind
from router.store.tables import LOGS

STATEMENT_TIMEOUT_S = 30.0
MONTHS_AHEAD = 3
PARTITIONS_EVERY_S = 24 * 3600.0
DELETED_AT_ONCE = 50
DELETES_A_TURN = 40
CHECKPOINTED_WAL_BYTES = 1 << 20
TRUNCATED_WAL_BYTES = 64 << 20
CHECKPOINT_EVERY_S = 1.0
"""After one, the next write of a worker begins its log anew, and waits for the disk."""

STAGING = """
create temporary table staging (kind text, payload jsonb) on commit drop
"""
# Rows say which transaction brought them: it tells what has arrived for good, and in which order.
MOVE = """
insert into {table} select row.* from staging, jsonb_populate_record(
    null::{table}, payload || jsonb_build_object('arrival', pg_current_xact_id()::text::bigint)
) as row where kind = {kind} on conflict do nothing
"""

REFUSED_BY_POSTGRES = (
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.errors.ProgramLimitExceeded,
    UnicodeDecodeError,
)


def copy_into_logs(
    connection: psycopg.Connection[Any], payloads: Sequence[tuple[str, str]]
) -> dict[str, int]:
    """Inserts (kind, JSON row) pairs by COPY inside the caller's transaction.

    Rows that are there already stay. Returns how many of each kind were new.
    """
    with connection.cursor() as cursor:
        cursor.execute(STAGING)
        with cursor.copy("copy staging (kind, payload) from stdin") as copy:
            for payload in payloads:
                copy.write_row(payload)
        kinds = sorted({kind for kind, _ in payloads})
        return {kind: cursor.execute(_move(Kind(kind))).rowcount for kind in kinds}


def _move(kind: Kind) -> sql.Composed:
    return sql.SQL(MOVE).format(table=sql.Identifier(LOGS[kind].name), kind=sql.Literal(kind.value))


class LogWriter:
    """Writes records into their tables by COPY; a record that is there already stays."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self._partitions_due_s = 0.0

    def write(self, batch: Sequence[Pending]) -> None:
        """All of the batch or none. Raises psycopg.Error, or UnicodeDecodeError."""
        payloads = [(row.kind, row.row.decode()) for row in batch]
        connection = self._connected()
        self._make_partitions(connection)
        with connection.transaction():
            copy_into_logs(connection, payloads)

    def close(self) -> None:
        """Gives the connection back; the next write makes another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> psycopg.Connection[tuple[Any, ...]]:
        if self._connection is None:
            self._connection = connect_raw(
                self._dsn,
                role=DatabaseRole.SHIPPER,
                application_name="leadline shipper",
                statement_timeout_s=STATEMENT_TIMEOUT_S,
            )
        return self._connection

    def _make_partitions(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        if time.monotonic() < self._partitions_due_s:
            return
        try:
            connection.execute("select ensure_partitions(%s)", [MONTHS_AHEAD])
        except psycopg.errors.LockNotAvailable:
            return
        self._partitions_due_s = time.monotonic() + PARTITIONS_EVERY_S


class ShippedFile:
    """One outbox as the shipper sees it. Every write to it is short: a worker may wait."""

    def __init__(self, path: Path, connection: sqlite3.Connection, holding: Holding) -> None:
        self.path = path
        self._connection = connection
        self._holding = holding
        self._checkpointed_s = -CHECKPOINT_EVERY_S

    @classmethod
    def open(cls, path: Path, holding: Holding | None = None) -> Self | None:
        """None while a worker is still making the file."""
        connection = open_for_shipping(path)
        return None if connection is None else cls(path, connection, holding or Holding())

    def batch(self, *, rows: int, byte_count: int) -> list[Pending]:
        """The oldest records to ship; at least one when there is any."""
        seq, total = self._progress()
        query = (
            "select seq, kind, row, total from records where seq > ? and total <= ? "
            "order by seq limit ?"
        )
        found = self._connection.execute(query, (seq, total + byte_count, rows)).fetchall()
        if not found:
            found = self._connection.execute(query, (seq, 1 << 62, 1)).fetchall()
        return [Pending(seq=row[0], kind=row[1], row=row[2], total=row[3]) for row in found]

    def pending(self) -> tuple[int, int]:
        """How many rows, and how many bytes, are to be shipped."""
        seq, total = self._progress()
        newest = self._connection.execute(
            "select seq, total from records order by seq desc limit 1"
        ).fetchone() or (0, 0)
        return max(0, newest[0] - seq), max(0, newest[1] - total)

    def mark_shipped(self, last: Pending) -> None:
        """All records up to this one are in Postgres, or refused by it."""
        self._connection.execute("update progress set seq = ?, total = ?", (last.seq, last.total))

    def refuse(self, row: Pending, *, reason: str) -> None:
        """Sets a record aside with the reason; it stays in the file."""
        self._connection.execute(
            "insert or ignore into refused select seq, kind, tenant, row_id, row, at, ? "
            "from records where seq = ?",
            (reason, row.seq),
        )

    def tidy(self, now_s: float) -> bool:
        """Deletes what was held long enough and checkpoints; whether anything was deleted."""
        deleted = self._delete(now_s)
        size = wal_bytes(self.path)
        idle = not deleted and self.pending()[0] == 0
        due = abs(now_s - self._checkpointed_s) >= CHECKPOINT_EVERY_S
        if due and (size > CHECKPOINTED_WAL_BYTES or (idle and size)):
            self._connection.execute("pragma wal_checkpoint(passive)")
            self._checkpointed_s = now_s
        if size > TRUNCATED_WAL_BYTES or (idle and size > CHECKPOINTED_WAL_BYTES):
            self._connection.execute("pragma wal_checkpoint(truncate)")
        return deleted

    def close(self) -> None:
        """Gives the file back."""
        self._connection.close()

    def _progress(self) -> tuple[int, int]:
        seq, total = self._connection.execute("select seq, total from progress").fetchone()
        return int(seq), int(total)

    def _delete(self, now_s: float) -> bool:
        for turn in range(DELETES_A_TURN):
            if not self._delete_some(now_s):
                return turn > 0
        return True

    def _delete_some(self, now_s: float) -> bool:
        """Deletes at most DELETED_AT_ONCE shipped records, never the newest."""
        seq, total = self._progress()
        (bound,) = self._connection.execute(
            "select max(seq) from (select seq, at, total from records order by seq limit ?) "
            "where seq < ? and (at < ? or seq <= ? or total <= ?)",
            (
                DELETED_AT_ONCE,
                seq,
                now_s - self._holding.seconds,
                seq - self._holding.rows,
                total - self._holding.byte_count,
            ),
        ).fetchone()
        if bound is None:
            return False
        self._connection.execute("delete from records where seq <= ?", (bound,))
        return True
