"""Runs one job in bounds: `python -I child.py SECONDS BYTES`, job on stdin, report on stdout.

It needs nothing but the standard library, for the code that it runs finds nothing else.
"""

from __future__ import annotations

import ast
import contextlib
import ctypes
import io
import json
import os
import resource
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

NEW_USERS, NEW_PROCESSES, NEW_NETWORK = 0x10000000, 0x20000000, 0x40000000
MOST_FILE_BYTES, MOST_FILES = 16 * 1024 * 1024, 64
MOST_WHY_CHARS = 500


def main() -> None:
    """Takes the job, closes the doors, runs it, and reports."""
    job: dict[str, Any] = json.loads(sys.stdin.buffer.read())
    out = os.dup(1)
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), 1)
    _leave()
    _bound(float(sys.argv[1]), int(sys.argv[2]))
    report = _JOBS[job["kind"]](job)
    os.write(out, json.dumps(report).encode() + b"\n")
    os._exit(0)


def _leave() -> None:
    """Leaves the network, where it may, and goes on as the first process of a world of its own.

    When that process ends, so does whatever it started.
    """
    try:
        left = ctypes.CDLL(None).unshare(NEW_USERS | NEW_PROCESSES | NEW_NETWORK) == 0
    except (OSError, AttributeError):
        return
    if left and (first := os.fork()):
        os.waitpid(first, 0)
        os._exit(0)


def _bound(seconds: float, memory_bytes: int) -> None:
    cpu = max(1, int(seconds) + 1)
    bounds = {
        resource.RLIMIT_CPU: cpu,
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_FSIZE: MOST_FILE_BYTES,
        resource.RLIMIT_NOFILE: MOST_FILES,
        resource.RLIMIT_CORE: 0,
    }
    for what, most in bounds.items():
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(what, (most, most))


def _run_tests(job: dict[str, Any]) -> dict[str, Any]:
    """Runs code, then its tests one by one: assertions, and functions named test_*."""
    names: dict[str, Any] = {"__name__": "answer"}
    quiet = io.StringIO()
    with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        why = _failure(partial(_execute, job["code"], names))
        if why:
            return {"ran": 0, "passed": 0, "why": f"the code failed: {why}"}
        results = [(label, _failure(test)) for label, test in _tests(job["tests"], names)]
    failed = [f"{label}: {why}" for label, why in results if why]
    passed = len(results) - len(failed)
    return {"ran": len(results), "passed": passed, "why": "".join(failed[:1])}


def _execute(code: str, names: dict[str, Any]) -> None:
    exec(compile(code, "answer", "exec"), names)  # noqa: S102


def _tests(text: str, names: dict[str, Any]) -> Iterator[tuple[str, Callable[[], object]]]:
    for node in ast.parse(text).body:
        code = compile(ast.Module([node], []), "tests", "exec")
        if isinstance(node, ast.Assert):
            yield ast.unparse(node), partial(exec, code, names)
            continue
        exec(code, names)  # noqa: S102
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield node.name, names[node.name]


def _failure(run: Callable[[], object]) -> str:
    """Why it failed, empty where it did not."""
    try:
        run()
    except BaseException as error:  # noqa: BLE001 (the code may raise anything, SystemExit too)
        return f"{type(error).__name__} {error}".strip()[:MOST_WHY_CHARS]
    return ""


_JOBS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {"tests": _run_tests}

if __name__ == "__main__":
    main()
