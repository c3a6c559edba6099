"""One worker process: `python -m router.serving.worker`, started by the supervisor.

Standard input brings one JSON line, the assignment, and then nothing: its end means that
the supervisor is gone, and the worker drains. Standard output takes one JSON line, the
report that it is ready or why it can't be.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
import threading
from importlib import import_module
from typing import Any

import uvloop
from prometheus_client import CollectorRegistry

from router.errors import LeadlineError
from router.serving.assignment import Assignment
from router.serving.server import Room, furnish, serve
from router.serving.stores import open_stores
from router.serving.telemetry import configure_logs, logger

SWITCH_INTERVAL_S = 0.001
YOUNG_OBJECTS = 50_000
UNNEEDED = ("sklearn", "pandas")


def main() -> int:
    """Serves until SIGTERM or the end of standard input."""
    assignment = Assignment.read(sys.stdin.buffer.readline())
    configure_logs(assignment.settings.log_level)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a worker is one core's
    _import_lightgbm()
    try:
        stores = open_stores(assignment.settings, assignment.dsn, assignment.worker)
        room = furnish(assignment.settings, stores, CollectorRegistry(), assignment.worker)
        uvloop.run(_serve(room, assignment.port))
    except LeadlineError as error:
        _report({"error": error.message, "kind": type(error).__name__})
        return 1
    return 0


def _import_lightgbm() -> None:
    """Imports it before the first policy comes, without what a worker has no use for.

    LightGBM imports scikit-learn and pandas where it finds them: a second and 110 MB.
    """
    hidden: dict[str, Any] = dict.fromkeys(UNNEEDED)
    sys.modules.update(hidden)
    import_module("lightgbm")
    for name in UNNEEDED:
        del sys.modules[name]


async def _serve(room: Room, port: int) -> None:
    stop, ready = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    threading.Thread(target=_watch_supervisor, daemon=True).start()
    serving = asyncio.create_task(serve(room, port, stop, ready))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if ready.is_set():
        gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG_OBJECTS, 20, 20)
        _report({"policy_version": room.reloader.current.state.policy.version})
    await serving


def _watch_supervisor() -> None:
    while os.read(0, 1024):
        pass
    logger().warning("the supervisor is gone: draining")
    os.kill(os.getpid(), signal.SIGTERM)


def _report(report: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(report) + "\n")
    sys.stdout.flush()
    os.close(1)
    os.open(os.devnull, os.O_WRONLY)


if __name__ == "__main__":
    sys.exit(main())
