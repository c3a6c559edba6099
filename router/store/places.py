"""Places that one process at a time may take on a database, as a session's advisory lock."""

from __future__ import annotations

import contextlib
from typing import Any

import psycopg

from router.store.engine import DatabaseRole, connect_raw

TRAINER_LOCK = 7_166_084

# A holder whose machine is gone is found out by the server in some 25 s, not in two hours.
DEAD_HOLDERS = """
set tcp_keepalives_idle = 10; set tcp_keepalives_interval = 5; set tcp_keepalives_count = 3
"""


class Place:
    """A place under one lock; it falls free when its holder's connection ends."""

    def __init__(self, dsn: str, lock: int, application_name: str) -> None:
        self._dsn, self._lock, self._name = dsn, lock, application_name
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self._held = False

    def holds(self) -> bool:
        """Whether the place is ours; takes it when it is free. False while Postgres is away."""
        try:
            return self._ask()
        except psycopg.Error:
            self.close()
            return False

    def close(self) -> None:
        """Gives the place back; a second call does nothing."""
        connection, self._connection = self._connection, None
        held, self._held = self._held, False
        if connection is not None:
            with contextlib.suppress(psycopg.Error), connection:
                if held:
                    connection.execute("select pg_advisory_unlock(%s)", (self._lock,))

    def _ask(self) -> bool:
        if self._connection is None:
            self._connection = connect_raw(
                self._dsn,
                role=DatabaseRole.TRAINER,
                application_name=self._name,
                statement_timeout_s=5.0,
            )
            self._connection.execute(DEAD_HOLDERS)
        statement = "select true" if self._held else "select pg_try_advisory_lock(%s)"
        row = self._connection.execute(
            statement.encode(), () if self._held else (self._lock,)
        ).fetchone()
        self._held = bool(row and row[0])
        return self._held


class OneTrainer(Place):
    """The place of a database's only training run: policies are shared by all of its tenants."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn, TRAINER_LOCK, "leadline train")
