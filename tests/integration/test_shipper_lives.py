"""The shipper's thread outlives what nobody foresaw."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from router.store.outbox import SqliteOutbox
from router.store.shipper import Shipper
from tests.kit.postgres import rows
from tests.kit.records import decision


class FaultyClock:
    """Fails the first few times that it is read."""

    def __init__(self, faults: int) -> None:
        self.faults = faults

    def __call__(self) -> float:
        if self.faults:
            self.faults -= 1
            raise ValueError("no clock")
        return time.time()


def test_an_unforeseen_error_is_logged_and_shipping_goes_on(
    tmp_path: Path, dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    outbox = SqliteOutbox(tmp_path / "outbox-0.sqlite3", max_bytes=1 << 30)
    outbox.put(decision())
    shipper, stop = Shipper(tmp_path, dsn, clock=(clock := FaultyClock(2))), threading.Event()
    running = threading.Thread(target=shipper.run, args=(stop,))
    running.start()
    deadline = time.monotonic() + 60
    while clock.faults or shipper.stats().last_error or not shipper.stats().shipped_rows:
        assert time.monotonic() < deadline, shipper.stats()
        time.sleep(0.02)
    outbox.put(decision())
    while rows(dsn, "select count(*) from decisions") != [(2,)]:
        assert time.monotonic() < deadline, shipper.stats()
        time.sleep(0.02)
    stop.set()
    running.join()
    outbox.close()
    shown = capsys.readouterr().out
    assert shown.count("shipping failed") == 2
    assert "ValueError" in shown
