"""Runs decisions: an arm, its evidence, what follows it, and what became of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
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


Take = Callable[[Final], Awaitable[None]]
"""Takes the answer, before the outcome of its attempt is logged."""


class Executes(Protocol):
    """Answers requests."""

    async def answer(self, request: Request, decider: Decider, take: Take) -> None:
        """As `execute`, for whoever waits for the answer alone; in the task of the caller.

        Cancelling it ends the calls that are under way.
        """
        ...

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

    async def answer(self, request: Request, decider: Decider, take: Take) -> None:
        """As Executes says."""
        await Run(request, decider, self._parts(request), tell=_unheard, take=take).run()

    async def execute(self, request: Request, decider: Decider) -> AsyncGenerator[Event, None]:
        """As Executes says."""
        events: asyncio.Queue[Event | None] = asyncio.Queue()

        async def take(last: Final) -> None:
            events.put_nowait(last)
            await asyncio.sleep(0)

        run = Run(request, decider, self._parts(request), tell=events.put_nowait, take=take)
        running = asyncio.create_task(run.run())
        running.add_done_callback(lambda _: events.put_nowait(None))
        event: Event | None = None
        try:
            while (event := await events.get()) is not None:
                yield event
            await running
        finally:
            with suppress(asyncio.CancelledError, Exception):
                await (asyncio.wait([running]) if isinstance(event, Final) else _ended(running))

    def _parts(self, request: Request) -> Parts:
        return Parts(
            backends=self.backends,
            strategies=self.strategies,
            trying=self.trying,
            deadline_s=min(request.deadline_s or self.deadline_s, self.deadline_s),
            rng=self.rng,
        )


def _unheard(_event: Event) -> None:
    pass


async def _ended(running: asyncio.Task[None]) -> None:
    running.cancel()
    await running
