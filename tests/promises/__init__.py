"""The promises at full size: load, chaos and statistics that take longer than a test may.

A promise is a function that measures and says whether what it measured holds. `make
promises` runs them one after the other and writes `build/promises.json`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "build" / "promises.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one promise brought: the figures for a person, and whether they hold."""

    figures: str
    held: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """A promise of one step: its name, what must hold, and the function that measures it."""

    step: int
    name: str
    must: str
    measure: Callable[[], Measured]


PROMISES: list[Promise] = []


def promise(
    *, step: int, name: str, must: str
) -> Callable[[Callable[[], Measured]], Callable[[], Measured]]:
    """Registers the decorated function as a promise."""

    def register(measure: Callable[[], Measured]) -> Callable[[], Measured]:
        PROMISES.append(Promise(step=step, name=name, must=must, measure=measure))
        return measure

    return register


def passes(tests: str) -> bool:
    """Whether tests of that name were found and all passed."""
    command = (sys.executable, "-m", "pytest", "-q", "--no-header", "-k", tests, "tests")
    return subprocess.run(command, check=False, capture_output=True, cwd=ROOT).returncode == 0
