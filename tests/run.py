"""The one test command: lint, types, import law, then every test with coverage.

The types are checked beside the tests, when those leave a core idle, and are heard of where
they are wrong; so pytest's closing line closes the output. A process per core, and one more
since tests wait for a quarter of their time, take whole files in turn, each process with one
thread: idle numeric threads spin, and slow down the others. What they compile is kept,
whatever the machine's setting is. Coverage is that of the tests' own processes: what servers
and commands run in theirs is not counted.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

BIN = Path(sys.executable).parent
CHECKS = (
    ("format", ("ruff", "format", "--check", "--quiet", ".")),
    ("lint", ("ruff", "check", "--quiet", ".")),
    ("import law", ("lint-imports",)),
)
TYPES = ("mypy",)
LAST = 19
CLOSING = re.compile(r"=+ .* in [0-9.]+s.* =+")
TESTS = ("python", "-m", "slipcover", "-m", "pytest", "-m", "not promise")
INTERRUPTED = 2
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
SPREAD = (f"--numprocesses={CORES + 1}", "--dist=loadfile", "--no-loadscope-reorder")
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "",  # else each of a run's processes compiles all it imports
}


def main() -> int:
    """Runs each step in turn; the first that fails ends the run with its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check-only", action="store_true", help="leave the tests out")
    arguments, rest = parser.parse_known_args()
    with _begun(TYPES) as types:
        os.setpriority(os.PRIO_PROCESS, types.pid, LAST)
        for name, command in CHECKS:
            if code := _step(name, command):
                types.kill()
                return code
        tests = 0 if arguments.check_only else _tests(rest)
        if tests == INTERRUPTED:
            types.kill()
            return tests
        return _types(types, heard=arguments.check_only) or tests


def _tests(options: Sequence[str]) -> int:
    """Runs pytest, whose closing line is told again below what was covered.

    Ctrl-C reaches pytest by itself, and what it says of that is waited for.
    """
    print("types: beside the tests", flush=True)
    closing = ""
    with _begun((*TESTS, *SPREAD, *options)) as tests:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        assert tests.stdout is not None
        for line in tests.stdout:
            print(line, end="", flush=True)
            closing = line if CLOSING.fullmatch(line.strip()) else closing
    print(closing, end="", flush=True)
    return tests.returncode


def _types(process: subprocess.Popen[str], *, heard: bool) -> int:
    """Waits for the verdict, which is told where it is bad or the last to be `heard`."""
    output, _ = process.communicate()
    if process.returncode or heard:
        print(output, f"types: {_verdict(process.returncode)}", sep="", flush=True)
    return process.returncode


def _step(name: str, command: tuple[str, ...]) -> int:
    started = time.monotonic()
    with _begun(command) as process:
        output, _ = process.communicate()
    verdict = _verdict(process.returncode)
    print(f"{name}: {verdict} ({time.monotonic() - started:.1f} s)", flush=True)
    if process.returncode:
        print(output, flush=True)
    return process.returncode


def _begun(command: tuple[str, ...]) -> subprocess.Popen[str]:
    """A command that has begun, whose output is to be read."""
    return subprocess.Popen(
        [BIN / command[0], *command[1:]],
        env=os.environ | ENVIRONMENT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def _verdict(code: int) -> str:
    return "failed" if code else "ok"


if __name__ == "__main__":
    sys.exit(main())
