"""The workers' figures while one of them begins a file."""

from __future__ import annotations

import struct
import threading
from pathlib import Path

import pytest

from router.serving.all_workers import AllWorkers


def test_a_file_that_is_just_begun_is_read_again(tmp_path: Path) -> None:
    begun = tmp_path / "counter_1.db"
    begun.touch()
    whole = threading.Timer(0.03, begun.unlink)
    whole.start()
    assert list(AllWorkers(tmp_path).collect()) == []
    whole.join()


def test_a_file_that_stays_unreadable_is_not_hidden(tmp_path: Path) -> None:
    (tmp_path / "counter_1.db").touch()
    with pytest.raises(struct.error):
        list(AllWorkers(tmp_path).collect())
