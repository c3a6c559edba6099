"""Changes to configuration, heard by LISTEN."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
from typing import Any

import psycopg
from sqlalchemy import Engine, select

from router.store.engine import DatabaseRole, connect_raw, transaction
from router.store.seams import Topic
from router.store.tables import revisions

CHANNEL = "leadline"
SLICE_S = 0.25


class PostgresChanges:
    """The Changes seam: one connection listens, the engine counts."""

    def __init__(self, engine: Engine, dsn: str) -> None:
        self._engine = engine
        self._dsn = dsn
        self._closed = threading.Event()
        self._waiting = threading.Lock()
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        with contextlib.suppress(psycopg.Error):
            self._listen()

    def revisions(self) -> Mapping[Topic, int]:
        """As the seam says."""
        with transaction(self._engine) as connection:
            rows = connection.execute(select(revisions.c.topic, revisions.c.revision)).all()
        return {Topic(topic): revision for topic, revision in rows}

    def wait(self, timeout_s: float) -> bool:
        """As the seam says."""
        with self._waiting:
            return self._wait_until(time.monotonic() + timeout_s)

    def close(self) -> None:
        """As the seam says; a `wait` under way returns within a quarter of a second."""
        self._closed.set()
        with self._waiting:
            self._drop()

    def _wait_until(self, deadline: float) -> bool:
        while not self._closed.is_set():
            try:
                if self._connection is None:
                    self._listen()
                    return True
                if self._heard(min(SLICE_S, max(0.0, deadline - time.monotonic()))):
                    return True
            except psycopg.Error:
                self._drop()
                self._closed.wait(min(SLICE_S, max(0.0, deadline - time.monotonic())))
            if time.monotonic() >= deadline:
                break
        return False

    def _listen(self) -> None:
        self._connection = connect_raw(
            self._dsn,
            role=DatabaseRole.ROUTER,
            application_name="leadline changes",
            statement_timeout_s=5.0,
        )
        self._connection.execute(f"listen {CHANNEL}".encode())

    def _heard(self, timeout_s: float) -> bool:
        if self._connection is None:
            return False
        return any(True for _ in self._connection.notifies(timeout=timeout_s, stop_after=1))

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
