"""Hedges a backend: asks again where an answer is late, and takes the one that comes first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace

from router.execution.backend import Backend
from router.execution.calls import Call, Completion, Piece
from router.execution.reading import guessed


class HedgedBackend:
    """A backend that is asked a second time after `after_s` without an answer.

    The call that loses is cancelled; the input that it cost is added to the answer's usage.
    Streams are not hedged.
    """

    def __init__(self, inner: Backend, *, after_s: float) -> None:
        self._inner, self._after_s = inner, after_s

    async def complete(self, call: Call, *, timeout_s: float) -> Completion:
        """As Backend says."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + timeout_s
        tasks = {asyncio.create_task(self._inner.complete(call, timeout_s=timeout_s))}
        try:
            await asyncio.wait(tasks, timeout=min(self._after_s, timeout_s))
            if not any(task.done() for task in tasks):
                again = self._inner.complete(call, timeout_s=max(ends_at - loop.time(), 0.0))
                tasks.add(asyncio.create_task(again))
            return await _first(tasks, call)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def stream(self, call: Call, *, timeout_s: float) -> AsyncGenerator[Piece, None]:
        """As Backend says."""
        return self._inner.stream(call, timeout_s=timeout_s)

    async def close(self) -> None:
        """As Backend says."""
        await self._inner.close()


async def _first(tasks: set[asyncio.Task[Completion]], call: Call) -> Completion:
    """The first answer, or the failure when all fail."""
    waiting, hedged = set(tasks), len(tasks) > 1
    while True:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        good = [task for task in done if task.exception() is None]
        if good:
            completion = good[0].result()
            extra = guessed(call) if hedged else None
            return replace(completion, usage=completion.usage + extra) if extra else completion
        if not waiting:
            return next(iter(done)).result()
