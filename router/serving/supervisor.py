"""leadline serve: the process that starts the workers and carries what they log to Postgres.

It imports neither gRPC nor LightGBM: what it starts, it spawns.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.multiprocess import mark_process_dead

from router.errors import ConfigurationError
from router.serving.all_workers import AllWorkers
from router.serving.assignment import Assignment
from router.serving.own_figures import OwnFigures
from router.serving.ports import HeldPort
from router.serving.telemetry import configure_logs, logger
from router.serving.workers import Child, Worker, scheduler, watcher
from router.settings import Settings
from router.store import schema
from router.store.embedded import EmbeddedPostgres
from router.store.engine import DatabaseRole, connect
from router.store.shipper import Shipper
from router.store.tenants import PostgresTenants

WATCH_S = 0.1
DRAIN_OUTBOX_S = 5.0
DEFAULT_TENANT = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """What serves, once every worker does."""

    host: str
    port: int
    metrics_port: int
    workers: int
    policy_version: int
    gateway_port: int | None = None

    def __str__(self) -> str:
        metrics = f", metrics on port {self.metrics_port}" if self.metrics_port else ""
        gateway = f", gateway on port {self.gateway_port}" if self.gateway_port else ""
        policy = f"policy {self.policy_version}" if self.policy_version else "the static policy"
        return (
            f"leadline serves on {self.host}:{self.port} with {self.workers} worker(s), "
            f"{policy}{gateway}{metrics}"
        )


def print_ready(ready: Ready) -> None:
    """One line on standard output."""
    sys.stdout.write(f"{ready}\n")
    sys.stdout.flush()


def run(
    settings: Settings,
    ready: Callable[[Ready], None] = print_ready,
    *,
    watch: bool = False,
    train_at: str = "",
) -> None:
    """Serves until SIGTERM or SIGINT, then drains; with a watcher of the slos' floors beside.

    Another process learns every day at the time `train_at` (03:00), where that is given.

    Raises ConfigurationError for a port in use, MigrationNeeded for somebody's own
    database at another schema, and Unavailable when it can't be reached.
    """
    configure_logs(settings.log_level)
    stop = threading.Event()
    with (
        HeldPort(settings.host, settings.port) as held,
        _gateway(settings) as settings,  # noqa: PLR1704
        _database(settings) as dsn,
        _stopped_by_signals(stop),
    ):
        settings.outbox_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        shipper = Shipper(settings.outbox_dir, dsn)
        metrics_dir = _metrics_dir(settings)
        workers: list[Worker] = []
        beside: list[Child] = []
        own = OwnFigures(shipper, workers, dsn)
        with _metrics(settings, metrics_dir, own), _shipping(shipper):
            try:
                workers += _start(settings, dsn, held.port, metrics_dir)
                versions = [worker.ready()["policy_version"] for worker in workers]
                ready(_ready(settings, held.port, min(versions)))
                beside += [watcher(settings, dsn, logger())] if watch else []
                beside += [scheduler(settings, dsn, train_at, logger())] if train_at else []
                _watch([*workers, *beside], stop, metrics_dir)
            finally:
                _end([*beside, *workers], settings.drain_s)


def _start(settings: Settings, dsn: str, port: int, metrics_dir: Path | None) -> Iterator[Worker]:
    for number in range(settings.workers):
        assignment = Assignment(settings=settings, dsn=dsn, port=port, worker=number)
        yield Worker(assignment, log=logger(), metrics_dir=metrics_dir)


def _ready(settings: Settings, port: int, policy_version: int) -> Ready:
    return Ready(
        host=settings.host,
        port=port,
        metrics_port=settings.metrics_port,
        gateway_port=settings.gateway_port,
        workers=settings.workers,
        policy_version=policy_version,
    )


def _watch(children: list[Child], stop: threading.Event, metrics_dir: Path | None) -> None:
    while not stop.wait(WATCH_S):
        for child in children:
            dead = child.keep()
            if dead is not None and metrics_dir is not None:
                mark_process_dead(dead, str(metrics_dir))  # type: ignore[no-untyped-call]


def _end(children: list[Child], drain_s: float) -> None:
    for child in children:
        child.terminate()
    deadline = time.monotonic() + drain_s + 3.0
    for child in children:
        child.wait(max(0.0, deadline - time.monotonic()))


@contextlib.contextmanager
def _gateway(settings: Settings) -> Iterator[Settings]:
    """Holds the gateway's port, where there is one, and tells the workers which it is."""
    if settings.gateway_port is None:
        yield settings
        return
    with HeldPort(settings.host, settings.gateway_port, "LEADLINE_GATEWAY_PORT") as held:
        yield settings.model_copy(update={"gateway_port": held.port})


@contextlib.contextmanager
def _database(settings: Settings) -> Iterator[str]:
    """A DSN at this version's schema; the embedded one is brought there."""
    if settings.dsn is not None:
        dsn = settings.dsn.get_secret_value()
        schema.check(dsn)
        yield dsn
        return
    server = EmbeddedPostgres(settings.state_dir / "postgres")
    dsn = server.start()
    try:
        schema.upgrade(dsn)
        _make_default_tenant(dsn)
        yield dsn
    finally:
        server.stop()


def _make_default_tenant(dsn: str) -> None:
    engine = connect(dsn, role=DatabaseRole.ADMIN, application_name="leadline supervisor")
    try:
        tenants = PostgresTenants(engine)
        if tenants.identify(DEFAULT_TENANT) is None:
            tenants.create(DEFAULT_TENANT, actor="supervisor")
    finally:
        engine.dispose()


@contextlib.contextmanager
def _shipping(shipper: Shipper) -> Iterator[None]:
    """Ships in a thread; afterwards ships what the workers left, for some seconds."""
    stop = threading.Event()
    thread = threading.Thread(target=shipper.run, args=(stop,), name="shipper")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        if not shipper.drain(DRAIN_OUTBOX_S):
            left = shipper.stats()
            logger().warning("rows wait in the outbox for the next start", rows=left.pending_rows)
        shipper.close()


@contextlib.contextmanager
def _stopped_by_signals(stop: threading.Event) -> Iterator[None]:
    signals = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(each, lambda *_: stop.set()) for each in signals]
    try:
        yield
    finally:
        for each, handler in zip(signals, before, strict=True):
            signal.signal(each, handler)


def _metrics_dir(settings: Settings) -> Path | None:
    """Where the workers leave their figures for us to add up; empty at every start."""
    if not settings.metrics_port:
        return None
    directory = settings.state_dir / f"metrics-{settings.metrics_port}"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True, mode=0o700)
    return directory


@contextlib.contextmanager
def _metrics(settings: Settings, directory: Path | None, own: OwnFigures) -> Iterator[None]:
    if directory is None:
        yield
        return
    registry = CollectorRegistry()
    registry.register(AllWorkers(directory))
    registry.register(own)
    try:
        server, thread = start_http_server(
            settings.metrics_port, addr=settings.host, registry=registry
        )
    except OSError as error:
        raise ConfigurationError(
            f"port {settings.metrics_port} of {settings.host} cannot be used for metrics "
            f"({error.strerror}); set LEADLINE_METRICS_PORT"
        ) from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        own.close()
