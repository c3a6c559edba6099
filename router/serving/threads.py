"""Blocking calls off the event loop: a few threads, a bounded queue, a deadline."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from router.errors import OutboxFull, Unavailable

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 4
MOST_WAITING = 64


class Threads:
    """Runs what blocks. At most MOST_WAITING calls are under way or wait.

    `late` says what it means that a call takes longer than `timeout_s`.
    """

    def __init__(
        self, timeout_s: float, *, late: str = "Postgres did not answer", threads: int = THREADS
    ) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="store")
        self._timeout_s, self._late = timeout_s, late
        self._places = threading.Semaphore(MOST_WAITING)

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The call's result. Raises Unavailable when it takes longer than the limit.

        Raises OutboxFull (OVERLOADED) when too many wait already.
        """
        if not self._places.acquire(blocking=False):
            raise OutboxFull(f"{MOST_WAITING} calls wait already; try again", reason="OVERLOADED")
        future = self._pool.submit(call, *args, **kwargs)
        future.add_done_callback(lambda _: self._places.release())
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise Unavailable(f"{self._late} within {self._timeout_s:g} s; try again") from None

    def close(self) -> None:
        """Lets go of the threads; what is under way ends by its own timeout."""
        self._pool.shutdown(wait=False, cancel_futures=True)
