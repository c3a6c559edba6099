"""Guards a backend: no more calls than it takes, and none while it is down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

from router.execution.backend import Backend, BackendFailed, backend_failed
from router.execution.breaker import Breaker
from router.execution.calls import Call, Completion, Failure, Piece

LONGEST_QUEUE_S = 1.0
"""How long a call waits for its turn before another arm is better."""

DOWN = frozenset(
    {
        Failure.OVERLOADED,
        Failure.UNREACHABLE,
        Failure.BROKEN_OFF,
        Failure.GARBAGE,
        Failure.TIMEOUT,
    }
)
"""The failures that say that a backend is down."""


class GuardedBackend:
    """A backend within a bound on calls under way, and a breaker for each of its models."""

    def __init__(
        self, inner: Backend, *, most: int, breaker: Callable[[], Breaker] = Breaker
    ) -> None:
        self._inner, self._turns, self._breaker = inner, asyncio.Semaphore(most), breaker
        self._breakers: dict[str, Breaker] = {}

    async def complete(self, call: Call, *, timeout_s: float) -> Completion:
        """As Backend says."""
        async with self._admitted(call, timeout_s):
            return await self._inner.complete(call, timeout_s=timeout_s)

    async def stream(self, call: Call, *, timeout_s: float) -> AsyncGenerator[Piece, None]:
        """As Backend says."""
        async with (
            self._admitted(call, timeout_s),
            aclosing(self._inner.stream(call, timeout_s=timeout_s)) as pieces,
        ):
            async for piece in pieces:
                yield piece

    async def close(self) -> None:
        """As Backend says."""
        await self._inner.close()

    @asynccontextmanager
    async def _admitted(self, call: Call, timeout_s: float) -> AsyncIterator[None]:
        """Raises BackendFailed at once while it is down, or when its turn does not come."""
        name = call.model.endpoint_model or call.model.name
        breaker = self._breakers.setdefault(name, self._breaker())
        if not breaker.admits():
            raise backend_failed(Failure.OPEN_CIRCUIT, call.model.name)
        await self._turn(call, timeout_s)
        try:
            yield
        except BackendFailed as error:
            if error.failure in DOWN:
                breaker.failed()
            raise
        else:
            breaker.succeeded()
        finally:
            self._turns.release()

    async def _turn(self, call: Call, timeout_s: float) -> None:
        if not self._turns.locked():
            await self._turns.acquire()
            return
        try:
            async with asyncio.timeout(min(timeout_s, LONGEST_QUEUE_S)):
                await self._turns.acquire()
        except TimeoutError:
            raise backend_failed(Failure.BUSY, call.model.name) from None
