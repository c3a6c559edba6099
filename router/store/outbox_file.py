"""The outbox's file: one SQLite database a worker, read and thinned by the shipper.

`total` is the running sum of the bytes of all records so far, so that the bytes still
to ship are the difference of two rows. The newest record is never deleted: it carries
the sum and keeps `seq` growing. `progress` is the last record that has been shipped.
"""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from router.errors import ConfigurationError
from router.settings import Durability

APPLICATION_ID = 0x4C454144
RECORD_OVERHEAD_BYTES = 512
BUSY_TIMEOUT_S = 5.0
PAGE_BYTES = 2048  # a commit logs whole pages: small ones cost calls, large ones bytes
DAMAGED = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT})
NO_ROOM = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN})

SCHEMA = """
begin immediate;
create table if not exists records (
    seq integer primary key,
    kind text not null,
    tenant blob not null,
    key blob not null,
    row_id blob not null,
    digest blob not null,
    at real not null,
    total integer not null,
    row blob not null
);
create unique index if not exists records_by_key on records (key, kind, tenant);
create index if not exists records_by_row on records (row_id);
create table if not exists progress (
    one integer primary key check (one = 1),
    seq integer not null,
    total integer not null
);
insert or ignore into progress values (1, 0, 0);
create table if not exists refused (
    seq integer primary key,
    kind text not null,
    tenant blob not null,
    row_id blob not null,
    row blob not null,
    at real not null,
    reason text not null
);
pragma application_id = 0x4C454144;
commit;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """One record that has not been shipped."""

    seq: int
    kind: str
    row: bytes
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """How much of what has been shipped stays, so that retries find it."""

    seconds: float = 600.0
    rows: int = 100_000
    byte_count: int = 256 << 20


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code of an error; 0 when it has none."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def open_for_writing(path: Path, durability: Durability) -> sqlite3.Connection:
    """Opens the worker's outbox, or makes it, readable by this user alone.

    Raises ConfigurationError after moving a damaged or foreign file aside.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = _connect(path)
    try:
        _refuse_a_foreign_file(connection)
        connection.execute(f"pragma page_size = {PAGE_BYTES}")
        connection.execute("pragma journal_mode = wal")
        full = durability is Durability.DISK
        connection.execute(f"pragma synchronous = {'full' if full else 'normal'}")
        connection.executescript(SCHEMA)
        connection.execute("select max(seq), max(length(row)) from (select * from records limit 1)")
    except sqlite3.DatabaseError as error:
        connection.close()
        if primary_code(error) in DAMAGED or isinstance(error, _Foreign):
            raise _moved_aside(path) from error
        raise
    return connection


def open_for_shipping(path: Path) -> sqlite3.Connection | None:
    """Opens an outbox that a worker has made; None while it is still being made."""
    connection = _connect(path)
    if _application_id(connection) == APPLICATION_ID:
        connection.execute("pragma synchronous = normal")
        return connection
    connection.close()
    return None


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Opens an outbox so that nothing in it can be changed. Raises sqlite3.Error."""
    connection = _connect(f"{path.absolute().as_uri()}?mode=ro")
    connection.execute("pragma query_only = on")
    return connection


def wal_bytes(path: Path) -> int:
    """The size of the write-ahead log beside the file."""
    try:
        return Path(f"{path}-wal").stat().st_size
    except FileNotFoundError:
        return 0


def _connect(where: Path | str) -> sqlite3.Connection:
    """`where` is a path, or a `file:` URI as a string."""
    connection = sqlite3.connect(
        where,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
        uri=isinstance(where, str),
    )
    connection.execute("pragma wal_autocheckpoint = 0")
    return connection


def _application_id(connection: sqlite3.Connection) -> int:
    (found,) = connection.execute("pragma application_id").fetchone()
    return int(found)


class _Foreign(sqlite3.DatabaseError):
    """The file is a SQLite database, but not ours."""


def _refuse_a_foreign_file(connection: sqlite3.Connection) -> None:
    tables = connection.execute("select count(*) from sqlite_master").fetchone()[0]
    if tables and _application_id(connection) != APPLICATION_ID:
        raise _Foreign


def _moved_aside(path: Path) -> ConfigurationError:
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    for suffix in ("-wal", "-shm", ""):
        beside = Path(f"{path}{suffix}")
        if beside.exists():
            beside.rename(f"{aside}{suffix}")
    return ConfigurationError(
        f"{path} is damaged or no outbox; it was moved to {aside.name}. "
        "Start again, and see what can be saved of it."
    )
