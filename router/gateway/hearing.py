"""Hears an execution: it runs in a task of its own, and ends with whoever asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing, suppress
from typing import Self

from starlette.types import Receive

from router.execution.events import Event

MOST_WAITING = 256


class Hearing:
    """The events of one execution; leaving it ends the calls that are under way.

    No more than `MOST_WAITING` events wait, then the execution does.
    """

    def __init__(self, events: AsyncGenerator[Event, None]) -> None:
        self._queue: asyncio.Queue[Event | Exception] = asyncio.Queue(MOST_WAITING)
        self._events = events
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def next(self, within_s: float | None = None) -> Event | None:
        """The next event; None when none comes in time. Raises what the execution does."""
        if self._queue.empty():
            try:
                async with asyncio.timeout(within_s):
                    heard = await self._queue.get()
            except TimeoutError:
                return None
        else:
            heard = self._queue.get_nowait()
        if isinstance(heard, Exception):
            raise heard
        return heard

    async def _run(self) -> None:
        try:
            async with aclosing(self._events) as events:
                async for event in events:
                    await self._queue.put(event)
        except Exception as error:  # noqa: BLE001 (whoever listens gets it)
            await self._queue.put(error)


async def while_there(receive: Receive, work: Awaitable[None]) -> bool:
    """Runs the work until its end, or until the client goes, which cancels it.

    It runs in the task of whoever calls. The request's body must have been read. Returns
    whether the work came to its end.
    """
    gone = asyncio.create_task(_gone(receive))
    try:
        async with asyncio.timeout(None) as there:

            def leave(_: asyncio.Task[None]) -> None:
                there.reschedule(0.0)

            gone.add_done_callback(leave)
            try:
                await work
            finally:
                gone.remove_done_callback(leave)
                gone.cancel()
    except TimeoutError:
        if there.expired():
            return False
        raise
    return True


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
