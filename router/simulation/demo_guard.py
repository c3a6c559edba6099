"""Runs a command that ends when its starter does, however that ends.

`python -m router.simulation.demo_guard [--postgres DIRECTORY] COMMAND ...`: standard input
is a pipe that the starter holds open and never writes to. At its end the command's process
group is asked to stop, then made to; and then the embedded Postgres in DIRECTORY is stopped.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from router.errors import LeadlineError

GRACE_S = 15.0
_WATCH_S = 0.05


class _Told(Exception):
    """Somebody told this process to stop."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    command = list(sys.argv[1:] if arguments is None else arguments)
    postgres: Path | None = None
    if command[:1] == ["--postgres"]:
        postgres, command = Path(command[1]), command[2:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _raise_told)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        with contextlib.suppress(_Told):
            _watch(child)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return _end(child)
    finally:
        if postgres is not None:
            _stop(postgres)


def _raise_told(_signal: int, _frame: FrameType | None) -> None:
    raise _Told


def _watch(child: subprocess.Popen[bytes]) -> None:
    """Waits for the end of the child or of standard input."""
    while child.poll() is None:
        if select.select([0], [], [], _WATCH_S)[0] and not os.read(0, 1):
            return


def _end(child: subprocess.Popen[bytes]) -> int:
    """Ends the child's whole group; its exit code as a shell says it, 128 + signal if killed."""
    if child.poll() is None:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(GRACE_S)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    code = child.wait()
    return code if code >= 0 else 128 - code


def _stop(directory: Path) -> None:
    from router.store.embedded import EmbeddedPostgres  # noqa: PLC0415 (only at the end)

    with contextlib.suppress(LeadlineError):
        server = EmbeddedPostgres(directory)
        deadline = time.monotonic() + GRACE_S
        while server.pid() is not None and time.monotonic() < deadline:
            server.stop()
            time.sleep(_WATCH_S)


if __name__ == "__main__":
    sys.exit(main())
