"""The processes of the server: started, kept, started again, stopped. No gRPC in this one."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from router import errors
from router.errors import LeadlineError, Unavailable
from router.serving.assignment import Assignment
from router.serving.telemetry import Logger
from router.settings import Settings

START_S = 60.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 10.0
STEADY_S = 30.0

WORKER = ("-m", "router.serving.worker")
LEADLINE = ("-c", "from router.cli import main; main()")
WATCHER = (*LEADLINE, "watch", "--supervised")
SCHEDULER = (*LEADLINE, "schedule", "--supervised", "--at")


class Child:
    """One process and its successors, each told the same on standard input, which stays open."""

    def __init__(
        self,
        command: Sequence[str],
        told: bytes,
        *,
        name: str,
        log: Logger,
        metrics_dir: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._command, self._told, self._name = [sys.executable, *command], told, name
        self._log, self._clock = log, clock
        self._environment = _environment(metrics_dir)
        self._pause_s = FIRST_PAUSE_S
        self._due_s = 0.0
        self.restarts = 0
        self._start()

    @property
    def pid(self) -> int:
        """The process id of the one that runs, or ran last."""
        return self._process.pid

    def keep(self) -> int | None:
        """Starts it again when it has died, after a pause; returns the dead one's id once."""
        if self._process.poll() is None:
            if self._clock() - self._started_s > STEADY_S:
                self._pause_s = FIRST_PAUSE_S
            return None
        if not self._due_s:
            self._due_s = self._clock() + self._pause_s
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            self._log.error("process died", name=self._name, status=self._process.returncode)
            return self._process.pid
        if self._clock() >= self._due_s:
            self._release()
            self.restarts += 1
            self._start()
        return None

    def terminate(self) -> None:
        """Asks it to drain."""
        if self._process.poll() is None:
            self._process.terminate()

    def wait(self, timeout_s: float) -> None:
        """Waits for its end; kills it when that takes too long."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._log.error("process killed: it did not drain", name=self._name)
            self._process.kill()
            self._process.wait()
        self._release()

    def _start(self) -> None:
        self._due_s, self._started_s = 0.0, self._clock()
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self._environment,
        )
        if self._process.stdin is not None:
            try:
                self._process.stdin.write(self._told)
                self._process.stdin.flush()
            except BrokenPipeError:
                return

    def _release(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


class Worker(Child):
    """One worker and its successors."""

    def __init__(self, assignment: Assignment, *, log: Logger, metrics_dir: Path | None) -> None:
        name = f"worker {assignment.worker}"
        super().__init__(WORKER, assignment.to_json(), name=name, log=log, metrics_dir=metrics_dir)

    def ready(self) -> Mapping[str, Any]:
        """Waits for the first report. Raises the error that kept the worker from serving."""
        stdout = self._process.stdout
        readable = stdout and select.select([stdout], [], [], START_S)[0]
        line = stdout.readline() if stdout and readable else b""
        if not line:
            raise Unavailable(f"{self._name} did not start; see its log above")
        report: dict[str, Any] = json.loads(line)
        if "error" in report:
            raise _error(report)
        return report


def watcher(settings: Settings, dsn: str, log: Logger) -> Child:
    """The process that certifies floors and holds them against outcomes; see 'leadline watch'."""
    return Child(WATCHER, _told(settings, dsn), name="watcher", log=log)


def scheduler(settings: Settings, dsn: str, train_at: str, log: Logger) -> Child:
    """The process that learns every night at a time of day; see 'leadline schedule'."""
    return Child((*SCHEDULER, train_at), _told(settings, dsn), name="scheduler", log=log)


def _told(settings: Settings, dsn: str) -> bytes:
    told = {"dsn": dsn, "state_dir": str(settings.state_dir), "log_level": settings.log_level}
    return json.dumps(told).encode() + b"\n"


def _environment(metrics_dir: Path | None) -> dict[str, str]:
    """One thread for numeric libraries: a worker is one core's."""
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    ours = dict.fromkeys(threads, "1") | {
        "GRPC_ENABLE_FORK_SUPPORT": "0",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if metrics_dir is not None:
        ours["PROMETHEUS_MULTIPROC_DIR"] = str(metrics_dir)
    return {**os.environ, **ours}


def _error(report: Mapping[str, Any]) -> LeadlineError:
    kind = getattr(errors, report["kind"], LeadlineError)
    error: LeadlineError = kind(report["error"])
    return error
