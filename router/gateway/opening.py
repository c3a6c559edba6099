"""Opens the gateway of a worker on what the worker has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from router.gateway.app import Parts, application
from router.gateway.server import listening
from router.serving.auth import KeyCallers, OpenCallers
from router.serving.server import Room
from router.serving.services import Services
from router.serving.telemetry import logger
from router.settings import Authentication


@asynccontextmanager
async def opened(room: Room, services: Services, port: int) -> AsyncIterator[None]:
    """Serves inside the block. Raises ConfigurationError that names the port.

    Callers are known by their keys, with mtls too, where their certificates come on top.
    """
    anyone = room.settings.authentication is Authentication.NONE
    parts = Parts(
        executor=services.executor,
        decider=services.deciding.of,
        current=room.reloader.current,
        tenants=room.tenants,
        outcomes=services.outcomes,
        callers=OpenCallers(room.tenants) if anyone else KeyCallers(room.tenants),
        metrics=room.metrics,
        log=logger(),
        key=room.stores.decision_key,
    )
    async with listening(application(parts, room.settings), room.settings, port):
        yield
