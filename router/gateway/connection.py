"""A connection that has to ask soon and to take what it is sent, so that none piles up."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

MOST_JOINED_BYTES = 1 << 16


class Joined:
    """A transport that sends together what is written in one turn of the loop.

    A reply's head and body, which come one by one, are one packet; the end of a reply is
    sent at once.
    """

    def __init__(self, transport: asyncio.Transport, connection: Connection) -> None:
        self._transport, self._connection = transport, connection
        self._parts, self._size = list[bytes](), 0

    def write(self, data: bytes) -> None:
        """As a transport's; what was written earlier goes first."""
        if not self._parts:
            self._connection.loop.call_soon(self.flush)
        self._parts.append(data)
        self._size += len(data)
        cycle: RequestResponseCycle | None = self._connection.cycle
        if self._size > MOST_JOINED_BYTES or (cycle and cycle.response_complete):
            self.flush()

    def flush(self) -> None:
        """Sends what was written."""
        parts, self._parts, self._size = self._parts, [], 0
        if parts and not self._transport.is_closing():
            self._transport.write(b"".join(parts))

    def close(self) -> None:
        """As a transport's."""
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Connection(H11Protocol):
    """One connection.

    It is closed when its first request has no whole head within `asked_s`, and when it does
    not take what is written to it for `taken_s`.
    """

    asked_s = 10.0
    taken_s = 30.0
    _asking: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begins to wait for a request."""
        super().connection_made(cast("asyncio.Transport", Joined(transport, self)))
        self._asking = self.loop.call_later(self.asked_s, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Waits no longer."""
        super().connection_lost(exc)
        for timer in (self._asking, self._taking):
            if timer is not None:
                timer.cancel()

    def pause_writing(self) -> None:
        """Begins to wait for what was written to be taken."""
        super().pause_writing()
        self._taking = self.loop.call_later(self.taken_s, self.transport.abort)

    def resume_writing(self) -> None:
        """It was taken."""
        super().resume_writing()
        if self._taking is not None:
            self._taking.cancel()

    def _give_up(self) -> None:
        asked: object = self.cycle
        if asked is None and not self.transport.is_closing():
            self.transport.close()
