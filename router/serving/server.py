"""Builds and runs one worker's gRPC server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry

from router.bundle.embedder import load_embedder
from router.errors import ConfigurationError
from router.serving.auth import Callers, CertificateCallers, KeyCallers, OpenCallers
from router.serving.backends import Board
from router.serving.budgets import Wallets
from router.serving.edge import Edge
from router.serving.exchange import Exchange
from router.serving.reload import Bundles, Reloader
from router.serving.services import Services, services
from router.serving.sightings import Sightings
from router.serving.stores import Stores, outbox_path
from router.serving.telemetry import Metrics, logger
from router.serving.tenants import TenantDirectory
from router.serving.threads import Threads
from router.serving.tracing import tracer
from router.settings import Authentication, Settings
from router.store.neighbour import Neighbour

SERVICES = tuple(
    f"router.v1.{name}" for name in ("Router", "Executor", "Slos", "Catalog", "Policies")
)
MAX_MESSAGE_BYTES = 4 << 20
VERIFY_S = 60.0
REHEARSE_S = 60.0
OPTIONS: Sequence[tuple[str, Any]] = (
    ("grpc.so_reuseport", 1),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
)


@dataclass(frozen=True, slots=True)
class Room:
    """All parts of a worker, wired but not yet listening."""

    settings: Settings
    stores: Stores
    threads: Threads
    verifying: Threads
    rehearsing: Threads
    tenants: TenantDirectory
    reloader: Reloader
    bundles: Bundles
    metrics: Metrics
    backends: Board
    wallets: Wallets


def furnish(
    settings: Settings, stores: Stores, registry: CollectorRegistry, worker: int = 0
) -> Room:
    """Loads the state and wires the parts; blocks. Raises Unavailable or MigrationNeeded."""
    metrics = Metrics(registry)
    threads = Threads(settings.default_deadline_s)
    verifying = Threads(VERIFY_S, late="the policy is not promoted: it was not verified", threads=1)
    rehearsing = Threads(REHEARSE_S, late="the slo was not rehearsed", threads=1)
    tenants = TenantDirectory(
        stores.tenants, stores.slos, stores.promises, threads, floors=metrics.floors
    )
    bundles = Bundles(stores.registry, stores.trusted, load_embedder())
    reloader = Reloader(
        catalog=stores.catalog,
        registry=stores.registry,
        bundles=bundles,
        changes=stores.changes,
        tenants=tenants,
        metrics=metrics,
        log=logger(),
    )
    return Room(
        settings=settings,
        stores=stores,
        threads=threads,
        verifying=verifying,
        rehearsing=rehearsing,
        tenants=tenants,
        reloader=reloader,
        bundles=bundles,
        metrics=metrics,
        backends=_board(settings, worker, metrics),
        wallets=Wallets(stores.budgets, stores.costs, threads, metrics, logger()),
    )


def _board(settings: Settings, worker: int, metrics: Metrics) -> Board:
    """The board of backends; it reads outboxes, its worker's own first, on its own connections."""
    workers = sorted(range(settings.workers), key=lambda each: each != worker)
    return Board(
        Sightings([Neighbour(outbox_path(settings, each)) for each in workers]),
        Exchange(settings.outbox_dir, worker, settings.workers),
        metrics,
        logger(),
    )


def callers(settings: Settings, tenants: TenantDirectory) -> Callers:
    """How this worker knows who calls."""
    match settings.authentication:
        case Authentication.API_KEY:
            return KeyCallers(tenants)
        case Authentication.MTLS:
            return CertificateCallers(tenants)
        case Authentication.NONE:
            return OpenCallers(tenants)


async def serve(room: Room, port: int, stop: asyncio.Event, ready: asyncio.Event) -> None:
    """Serves until `stop`; then finishes what is under way, within `drain_s`.

    Sets `ready` once it listens. Raises ConfigurationError that names the port.
    """
    log = logger()
    tracing = tracer(log)
    served = services(room)
    edge = Edge(
        served.rpcs,
        callers=callers(room.settings, room.tenants),
        metrics=room.metrics,
        log=log,
        most=room.settings.max_concurrency,
        tracer=tracing,
    )
    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers((edge,))
    healthy = _introspection(server)
    _listen(server, room.settings, port)
    await server.start()
    for name in ("", *SERVICES):
        await healthy.set(name, health_pb2.HealthCheckResponse.SERVING)
    room.reloader.start()
    room.backends.start()
    room.wallets.start()
    async with contextlib.AsyncExitStack() as gateway:
        await _open_gateway(gateway, room, served)
        ready.set()
        await stop.wait()
        await healthy.enter_graceful_shutdown()
        await asyncio.gather(server.stop(room.settings.drain_s), gateway.aclose())
    await served.executor.backends.close()
    await asyncio.to_thread(_close, room)
    if tracing is not None:
        tracing.close()


async def _open_gateway(stack: contextlib.AsyncExitStack, room: Room, served: Services) -> None:
    """Serves HTTP too, where that is wanted, until the stack is closed."""
    if room.settings.gateway_port is None:
        return
    try:
        from router.gateway.opening import opened  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise ConfigurationError(
            f"the gateway needs {error.name}; install leadline[gateway]"
        ) from None
    await stack.enter_async_context(opened(room, served, room.settings.gateway_port))


def _introspection(server: grpc.aio.Server) -> Any:
    """Adds reflection and health checking; returns the latter."""
    healthy = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    reflection.enable_server_reflection(
        (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    return healthy


def _close(room: Room) -> None:
    room.reloader.close()
    room.backends.close()
    room.wallets.close()
    room.threads.close()
    room.verifying.close()
    room.rehearsing.close()
    room.stores.outbox.close()


def _listen(server: grpc.aio.Server, settings: Settings, port: int) -> None:
    address = f"{_bracketed(settings.host)}:{port}"
    credentials = _credentials(settings)
    with contextlib.suppress(RuntimeError):
        bound = (
            server.add_insecure_port(address)
            if credentials is None
            else server.add_secure_port(address, credentials)
        )
        if bound:
            return
    raise ConfigurationError(
        f"cannot listen on {address}: the port is in use or the host is not of this machine; "
        "set LEADLINE_PORT or LEADLINE_HOST"
    )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """TLS by the settings; None serves in the clear."""
    certificate, key = settings.tls_certificate, settings.tls_key
    mutual = settings.authentication is Authentication.MTLS
    if certificate is None or key is None:
        if mutual:
            raise ConfigurationError("mtls needs LEADLINE_TLS_CERTIFICATE and LEADLINE_TLS_KEY")
        return None
    authority = settings.tls_client_ca
    try:
        pair = (key.read_bytes(), certificate.read_bytes())
        trusted = authority.read_bytes() if authority is not None else None
    except OSError as error:
        raise ConfigurationError(f"{error.filename}: {error.strerror}") from None
    return grpc.ssl_server_credentials(
        [pair], root_certificates=trusted, require_client_auth=mutual
    )
