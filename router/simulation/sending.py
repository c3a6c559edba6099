"""Sends a reply in its time, as long as the client is there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from router.simulation.faults import Counters, Kind

FIRST_TOKEN_SHARE = 0.25
"""How much of a stream's latency passes before its first part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long a reply waits, and where it breaks off; `parts` of a stream come evenly."""

    wait_s: float = 0.0
    streams: bool = False
    broken: Kind | None = None


class Sent(Response):
    """A reply in parts that stops, and is counted, as soon as its client has left.

    Where it is broken, it ends in the middle, which closes the connection.
    """

    def __init__(
        self, parts: Sequence[bytes], headers: dict[str, str], timing: Timing, counters: Counters
    ) -> None:
        media_type = "text/event-stream" if timing.streams else "application/json"
        super().__init__(None, 200, headers, media_type)
        del self.headers["content-length"]
        if not timing.streams:
            self.headers["content-length"] = str(sum(map(len, parts)))
        self._parts, self._timing, self._counters = parts, timing, counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Sends, or sees the client leave, whichever is first."""
        if not await while_there(receive, lambda: self._send(send)):
            self._counters.leave()

    async def _send(self, send: Send) -> None:
        timing, parts = self._timing, self._parts
        first = FIRST_TOKEN_SHARE if timing.streams else 1.0
        await asyncio.sleep(timing.wait_s * first)
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        each_s = timing.wait_s * (1 - first) / len(parts)
        for part in parts[: _kept(timing, len(parts))]:
            whole = len(parts) > 1 or timing.broken is None
            await send(_body(part if whole else part[: len(part) // 2], more=True))
            if each_s:
                await asyncio.sleep(each_s)
        if timing.broken is None:
            await send(_body(b"", more=False))
            self._counters.answered += 1


def _kept(timing: Timing, parts: int) -> int:
    """How many parts are sent."""
    if timing.broken is Kind.CLOSE:
        return 0
    return max(1, parts // 2) if timing.broken else parts


def _body(part: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": part, "more_body": more}


async def while_there(receive: Receive, work: Callable[[], Awaitable[None]]) -> bool:
    """Does the work unless the client leaves first; says whether it was done."""
    working, leaving = asyncio.ensure_future(work()), asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            return False
        working.result()
        return True
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
