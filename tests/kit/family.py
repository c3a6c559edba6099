"""Finds processes by a variable that they inherited, to see that none outlives its family."""

from __future__ import annotations

import time
from pathlib import Path


def alive(variable: str) -> list[int]:
    """Ids of the processes, zombies left out, whose environment holds `NAME=value`."""
    return [
        int(process.name)
        for process in Path("/proc").iterdir()
        if process.name.isdigit() and variable.encode() in _environment(process)
    ]


def gone(variable: str, within_s: float) -> bool:
    """Whether no such process is left, at the latest after some seconds."""
    deadline = time.monotonic() + within_s
    while alive(variable):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _environment(process: Path) -> list[bytes]:
    try:
        return (process / "environ").read_bytes().split(b"\0")
    except OSError:
        return []
