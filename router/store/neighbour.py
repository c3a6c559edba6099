"""Another worker's outbox on this machine, which is only read."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from uuid import UUID

import structlog

from router.store.outbox import first
from router.store.outbox_file import open_for_reading
from router.store.seams import Kind, Record

_log = structlog.get_logger()


class Neighbour:
    """Finds what the other worker holds; opened when first asked, never changed or moved."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def find(self, kind: Kind, tenant_id: UUID, row_id: UUID) -> Record | None:
        """As Outbox says; None while the neighbour has no outbox, or a damaged one."""
        with self._lock:
            try:
                return self._find(kind, tenant_id, row_id)
            except sqlite3.Error as error:
                _log.warning("neighbour not read", outbox=self._path.name, error=str(error))
                self._close()
                return None

    def close(self) -> None:
        """Gives the file back; a second call does nothing."""
        with self._lock:
            self._close()

    def _find(self, kind: Kind, tenant_id: UUID, row_id: UUID) -> Record | None:
        if self._connection is None:
            if not self._path.exists():
                return None
            self._connection = open_for_reading(self._path)
        return first(self._connection, "row_id", kind, tenant_id, row_id)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
