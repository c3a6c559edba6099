"""Hears an execution: it runs in a task of its own, and ends with whoever asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing, suppress
from typing import Any, Self

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


async def while_there(receive: Receive, work: Coroutine[Any, Any, None]) -> bool:
    """Runs the work until its end, or until the client goes, which cancels it.

    The request's body must have been read. Returns whether the work came to its end.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.create_task(_gone(receive))
    gone.add_done_callback(lambda _: task.cancel())
    try:
        await task
    except asyncio.CancelledError:
        if gone.done() and not gone.cancelled():
            return False
        raise
    finally:
        gone.cancel()
    return True


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
