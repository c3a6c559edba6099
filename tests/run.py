"""The one test command: lint, types, import law, then every test with coverage.

The tests run last, so that pytest's closing line closes the output. A process per core
takes whole files in turn, each process with one thread: idle numeric threads spin, and slow
down the others.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

BIN = Path(sys.executable).parent
CHECKS = (
    ("format", ("ruff", "format", "--check", "--quiet", ".")),
    ("lint", ("ruff", "check", "--quiet", ".")),
    ("import law", ("lint-imports",)),
    ("types", ("mypy",)),
)
TESTS = ("pytest", "--cov", "--cov-report=term:skip-covered", "-m", "not promise")
SPREAD = ("--numprocesses=auto", "--dist=loadfile", "--no-loadscope-reorder")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def main() -> int:
    """Runs each step in turn; the first that fails ends the run with its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check-only", action="store_true", help="leave the tests out")
    arguments, rest = parser.parse_known_args()
    for name, command in CHECKS:
        if code := _step(name, command, quiet=True):
            return code
    return 0 if arguments.check_only else _step("tests", (*TESTS, *SPREAD, *rest), quiet=False)


def _step(name: str, command: tuple[str, ...], *, quiet: bool) -> int:
    started = time.monotonic()
    process = subprocess.run(
        [BIN / command[0], *command[1:]],
        env=os.environ | ONE_THREAD,
        check=False,
        text=True,
        capture_output=quiet,
    )
    if quiet:
        verdict = "failed" if process.returncode else "ok"
        print(f"{name}: {verdict} ({time.monotonic() - started:.1f} s)", flush=True)
    if quiet and process.returncode:
        print(process.stdout, process.stderr, sep="\n", flush=True)
    return process.returncode


if __name__ == "__main__":
    sys.exit(main())
