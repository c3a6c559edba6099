"""Runs decisions: an arm, its evidence, what follows it, and what became of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from router.execution.backends import Backends
from router.execution.caller import Trying
from router.execution.deciding import Decider, Request
from router.execution.events import Event, Final
from router.execution.running import Parts, Run
from router.execution.strategies import strategy
from router.execution.strategy import Runnable

DEADLINE_S = 120.0


class Executes(Protocol):
    """Answers requests."""

    def execute(self, request: Request, decider: Decider) -> AsyncGenerator[Event, None]:
        """What happens, as it happens; the last event is Final.

        Closing it ends the calls that are under way. The outcome of the last attempt is
        logged right after Final, and has been when this ends or is closed. Raises what
        `decider.route` does, and BackendFailed where no arm gave an answer.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Executor:
    """Runs arms by their strategies on the backends. Belongs to one event loop.

    `deadline_s` holds where a request has none, and bounds those that have.
    """

    backends: Backends
    strategies: Callable[[str], Runnable] = strategy
    trying: Trying = field(default_factory=Trying)
    deadline_s: float = DEADLINE_S
    rng: random.Random = field(default_factory=random.SystemRandom)

    async def execute(self, request: Request, decider: Decider) -> AsyncGenerator[Event, None]:
        """As Executes says."""
        events: asyncio.Queue[Event | None] = asyncio.Queue()
        parts = Parts(
            backends=self.backends,
            strategies=self.strategies,
            trying=self.trying,
            deadline_s=min(request.deadline_s or self.deadline_s, self.deadline_s),
            rng=self.rng,
        )
        running = asyncio.create_task(Run(request, decider, parts, events.put_nowait).run())
        running.add_done_callback(lambda _: events.put_nowait(None))
        event: Event | None = None
        try:
            while (event := await events.get()) is not None:
                yield event
            await running
        finally:
            with suppress(asyncio.CancelledError, Exception):
                await (asyncio.wait([running]) if isinstance(event, Final) else _ended(running))


async def _ended(running: asyncio.Task[None]) -> None:
    running.cancel()
    await running


async def final(events: AsyncGenerator[Event, None]) -> Final:
    """The last event, for whoever waits for the answer alone. Raises as the execution does."""
    last: Event | None = None
    async for event in events:
        last = event
    if not isinstance(last, Final):
        raise TypeError("an execution ended without its final event")
    return last
