"""The figures of all workers, added up from the files that each keeps its own in."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

_READINGS, _PAUSE_S = 5, 0.02


class AllWorkers(Collector):
    """Collects the workers' figures; a file that one has just begun is read again."""

    def __init__(self, directory: Path) -> None:
        self._files = MultiProcessCollector(None, path=str(directory))  # type: ignore[no-untyped-call]

    def collect(self) -> Iterable[Metric]:
        """The figures; raises what reading does where a file stays unreadable."""
        for _ in range(_READINGS - 1):
            try:
                return self._read()
            except (struct.error, ValueError):
                time.sleep(_PAUSE_S)
        return self._read()

    def _read(self) -> list[Metric]:
        return list(self._files.collect())  # type: ignore[no-untyped-call]
