"""The shipper: carries the outboxes' records into Postgres, each exactly once.

It runs in the supervisor, beside the workers. Kill -9 of either side at any point is
safe: rows go in by primary key, and a record counts as shipped only after the commit.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import structlog

from router.store.outbox_file import Pending
from router.store.shipping import REFUSED_BY_POSTGRES, LogWriter, ShippedFile

PAUSE_S = 0.25
LONGEST_PAUSE_S = 2.0
BATCH_ROWS = 1_000
BATCH_BYTES = 8 << 20

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class ShipperStats:
    """Where the shipper stands; counts of rows are since it was made."""

    pending_rows: int = 0
    pending_bytes: int = 0
    shipped_rows: int = 0
    refused_rows: int = 0
    last_error: str = ""


class Shipper:
    """Ships every `outbox-*.sqlite3` of a directory, those of earlier runs included.

    Memory stays flat: a batch is at most 1,000 rows and about 8 MB. Thread-safe.
    """

    def __init__(
        self, directory: Path, dsn: str, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.directory = directory
        self._writer = LogWriter(dsn)
        self._clock = clock
        self._files: dict[Path, ShippedFile] = {}
        self._turn_lock = threading.Lock()
        self._stats = ShipperStats()
        self._failures = 0

    def run(self, stop: threading.Event) -> None:
        """Ships until `stop` is set; what is then left stays in the outboxes."""
        pause_s = 0.0
        while not stop.wait(pause_s):
            pause_s = self._turn()
        self.close()

    def drain(self, timeout_s: float) -> bool:
        """Ships until nothing is pending (True) or the time is over (False)."""
        deadline = time.monotonic() + timeout_s
        while True:
            pause_s = self._turn()
            if self.stats().pending_rows == 0 and not self._failures:
                return True
            if time.monotonic() + pause_s > deadline:
                return False
            time.sleep(0.0 if not self._failures else pause_s)

    def stats(self) -> ShipperStats:
        """Where the shipper stood after its last turn."""
        return self._stats

    def close(self) -> None:
        """Gives the connections back; the next turn opens them anew."""
        with self._turn_lock:
            self._writer.close()
            for file in self._files.values():
                file.close()
            self._files.clear()

    def _turn(self) -> float:
        """Tidies and ships one batch of every file; returns how long to pause."""
        with self._turn_lock:
            try:
                full = self._tidy_and_ship()
            except Exception as error:  # noqa: BLE001 (the thread must live)
                full = False
                self._fail(error)
        if self._failures:
            return float(min(LONGEST_PAUSE_S, 0.1 * 2 ** min(self._failures, 10)))
        return 0.0 if full else PAUSE_S

    def _tidy_and_ship(self) -> bool:
        self._find_files()
        full = self._ship_all()
        self._each_file(lambda file: file.tidy(self._clock()))
        self._count_pending()
        return full

    def _fail(self, error: Exception) -> None:
        """Counts a failure that nobody foresaw; the next turn begins with a new connection."""
        self._failures += 1
        self._writer.close()
        kind = type(error).__name__
        _log.error("shipping failed", kind=kind, exc_info=True)
        self._stats = replace(self._stats, last_error=kind)

    def _find_files(self) -> None:
        for path in sorted(self.directory.glob("outbox-*.sqlite3")):
            if path in self._files:
                continue
            try:
                file = ShippedFile.open(path)
            except sqlite3.Error as error:
                self._note(f"{path.name}: {error}")
                continue
            if file is not None:
                self._files[path] = file

    def _ship_all(self) -> bool:
        """Whether some file had a full batch, so that more is to be expected."""
        try:
            full = any([self._each_file(self._ship)])
        except psycopg.Error as error:
            self._failures += 1
            self._writer.close()
            self._note(f"Postgres: {type(error).__name__}")
            return False
        self._failures = 0
        return full

    def _each_file(self, act: Callable[[ShippedFile], bool]) -> bool:
        any_true = False
        for path, file in list(self._files.items()):
            try:
                any_true |= act(file)
            except sqlite3.Error as error:
                self._note(f"{path.name}: {error}")
                file.close()
                del self._files[path]
        return any_true

    def _ship(self, file: ShippedFile) -> bool:
        batch = file.batch(rows=BATCH_ROWS, byte_count=BATCH_BYTES)
        if not batch:
            return False
        self._write(file, batch)
        file.mark_shipped(batch[-1])
        return file.pending()[0] >= BATCH_ROWS

    def _write(self, file: ShippedFile, batch: Sequence[Pending]) -> None:
        """Writes the rows; those that Postgres refuses for good are found by bisection."""
        try:
            self._writer.write(batch)
        except REFUSED_BY_POSTGRES as error:
            if len(batch) == 1:
                self._refuse(file, batch[0], error)
                return
            middle = len(batch) // 2
            self._write(file, batch[:middle])
            self._write(file, batch[middle:])
            return
        self._stats = replace(self._stats, shipped_rows=self._stats.shipped_rows + len(batch))

    def _refuse(self, file: ShippedFile, row: Pending, error: Exception) -> None:
        file.refuse(row, reason=str(error).split("\n", 1)[0])
        self._stats = replace(self._stats, refused_rows=self._stats.refused_rows + 1)
        reason = type(error).__name__
        _log.error("row refused", outbox=file.path.name, seq=row.seq, kind=row.kind, reason=reason)

    def _count_pending(self) -> None:
        counts = [0, 0]

        def add(file: ShippedFile) -> bool:
            rows, byte_count = file.pending()
            counts[0] += rows
            counts[1] += byte_count
            return False

        self._each_file(add)
        error = self._stats.last_error if self._failures else ""
        self._stats = replace(
            self._stats, pending_rows=counts[0], pending_bytes=counts[1], last_error=error
        )

    def _note(self, error: str) -> None:
        if error != self._stats.last_error:
            _log.warning("shipping waits", error=error)
        self._stats = replace(self._stats, last_error=error)
