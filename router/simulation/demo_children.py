"""The demo's child processes: each has a log of its own and never outlives the demo."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from router.errors import LeadlineError

LAST_LINES = 12
_WATCH_S = 0.02
_LEADLINE = Path(sys.executable).with_name("leadline")


class ChildFailed(LeadlineError):
    """A process of the demo failed; see its log."""

    def __init__(self, name: str, why: str, log: Path) -> None:
        super().__init__(f"{name} {why}; see {log}")
        self.log = log
        self.last_lines = last_lines(log)


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A process under its guard; `output` is what it printed, `log` what it said besides."""

    name: str
    guard: subprocess.Popen[bytes]
    output: Path
    log: Path

    async def printed(self, start: str, timeout_s: float) -> str:
        """The rest of the first printed line with that start. Raises ChildFailed."""

        def found() -> str | None:
            lines = self.output.read_text(errors="replace").splitlines(keepends=True)
            whole = (line.strip() for line in lines if line.endswith("\n"))
            return next(
                (line.removeprefix(start) for line in whole if line.startswith(start)), None
            )

        deadline = time.monotonic() + timeout_s
        while (line := found()) is None:
            self.check()
            if time.monotonic() > deadline:
                raise ChildFailed(self.name, f"was not ready within {timeout_s:.0f} s", self.log)
            await asyncio.sleep(_WATCH_S)
        return line

    async def ended(self) -> str:
        """Waits for the end and returns what it printed. Raises ChildFailed."""
        while self.guard.poll() is None:  # noqa: ASYNC110 (a process sets no event)
            await asyncio.sleep(_WATCH_S)
        if self.guard.returncode:
            raise self._failed()
        return self.output.read_text(errors="replace")

    def check(self) -> None:
        """Raises ChildFailed when it is not there any more."""
        if self.guard.poll() is not None:
            raise self._failed()

    def _failed(self) -> ChildFailed:
        return ChildFailed(self.name, f"ended with exit code {self.guard.returncode}", self.log)


@dataclass(slots=True, kw_only=True)
class Children:
    """Starts processes with their logs in a directory; `stop` ends all of them."""

    logs: Path
    environment: Mapping[str, str]
    _all: list[Child] = field(default_factory=list)

    def start(self, name: str, command: Sequence[str], *, postgres: Path | None = None) -> Child:
        """Starts a command in the logs' directory, under a guard."""
        guard = [sys.executable, "-m", "router.simulation.demo_guard"]
        if postgres is not None:
            guard += ["--postgres", str(postgres)]
        output, log = self.logs / f"{name}.out", self.logs / f"{name}.log"
        with output.open("wb") as out, log.open("wb") as err:
            process = self._popen([*guard, *command], out, err)
        child = Child(name=name, guard=process, output=output, log=log)
        self._all.append(child)
        return child

    def _popen(
        self, command: Sequence[str], out: IO[bytes], err: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=err,
            cwd=self.logs,
            env=dict(self.environment),
            start_new_session=True,
        )

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Makes an error that a failed process explains a ChildFailed."""
        try:
            yield
        except ChildFailed:
            raise
        except Exception:
            for child in self._all:
                if child.guard.poll():
                    child.check()
            raise

    def stop(self) -> None:
        """Lets go of every process and waits until all have ended; a second call does nothing."""
        for child in self._all:
            if child.guard.stdin is not None:
                child.guard.stdin.close()
        for child in self._all:
            child.guard.wait()


@contextmanager
def children(logs: Path, settings: Mapping[str, str]) -> Iterator[Children]:
    """Children whose only LEADLINE_* variables are `settings`; all are stopped at the end."""
    inherited = {
        name: text for name, text in os.environ.items() if not name.startswith("LEADLINE_")
    }
    family = Children(logs=logs, environment={**inherited, **settings})
    try:
        yield family
    finally:
        family.stop()


def leadline(*arguments: str) -> list[str]:
    """The command line of the `leadline` that belongs to this Python."""
    return [str(_LEADLINE), *arguments]


def last_lines(log: Path, most: int = LAST_LINES) -> list[str]:
    """The end of a log; nothing where there is none."""
    try:
        return log.read_text(errors="replace").splitlines()[-most:]
    except OSError:
        return []
