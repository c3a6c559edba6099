"""Runs the gateway on a worker's event loop, beside gRPC, on a port that all workers share."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from router.errors import ConfigurationError
from router.gateway.connection import Connection
from router.settings import Authentication, Settings

BACKLOG = 512
KEEP_ALIVE_S = 75
CONNECTIONS = 4
"""So many connections may stand open for each request that may be under way."""


class _Server(uvicorn.Server):
    """A server that leaves signals to the worker."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield


@contextlib.asynccontextmanager
async def listening(app: ASGIApp, settings: Settings, port: int) -> AsyncIterator[int]:
    """Serves inside the block, on a port that it yields; 0 takes a free one.

    Then it lets requests end, within `drain_s`. Raises ConfigurationError that names the port.
    """
    listener = _listen(settings.host, port)
    server = _Server(_config(app, settings))
    serving = asyncio.create_task(server.serve([listener]))
    try:
        await _started(server, serving)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await asyncio.wait({serving})
        listener.close()


async def _started(server: uvicorn.Server, serving: asyncio.Task[None]) -> None:
    while not server.started:
        if serving.done():
            raise ConfigurationError("the gateway did not start; see the log") from (
                serving.exception()
            )
        await asyncio.sleep(0.001)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        listener.setblocking(False)  # noqa: FBT003 (the name of its one parameter is "flag")
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"the gateway cannot listen on {host}:{port} ({error.strerror}); "
            "set LEADLINE_GATEWAY_PORT"
        ) from None
    return listener


def _config(app: ASGIApp, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        limit_concurrency=CONNECTIONS * settings.max_concurrency,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(settings.drain_s)),
        **_tls(settings),
    )


def _tls(settings: Settings) -> dict[str, Any]:
    """As gRPC's; with mtls a client shows a certificate of the authority beside its key."""
    if settings.tls_certificate is None:
        return {}
    told: dict[str, Any] = {
        "ssl_certfile": settings.tls_certificate,
        "ssl_keyfile": settings.tls_key,
    }
    if settings.authentication is Authentication.MTLS:
        told |= {"ssl_ca_certs": settings.tls_client_ca, "ssl_cert_reqs": ssl.CERT_REQUIRED}
    return told
