"""A connection that has to ask soon and to take what it is sent, so that none piles up."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

MOST_HEAD_BYTES = MOST_JOINED_BYTES = 1 << 16
MOST_PIPELINED = 16
"""So many requests may wait on one connection behind the one that is being answered."""

MALFORMED, TOO_LARGE = 400, 431


class Joined:
    """A transport that sends together what is written in one turn of the loop.

    A reply's head and body, which come one by one, are one packet.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._parts, self._size = list[bytes](), 0

    def write(self, data: bytes) -> None:
        """As a transport's; what was written earlier goes first."""
        if not self._parts:
            self._loop.call_soon(self.flush)
        self._parts.append(data)
        self._size += len(data)
        if self._size > MOST_JOINED_BYTES:
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


class Connection(HttpToolsProtocol):
    """One connection.

    It is closed when its first request has no whole head within `asked_s`, when it does not
    take what is written to it for `taken_s`, and when `MOST_HEAD_BYTES` came with neither a
    whole head nor a piece of a body in them: the parser bounds no head by itself.
    """

    asked_s = 10.0
    taken_s = 30.0
    _asking: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None
    _in_head = False
    _unread_bytes = 0

    def connection_made(self, transport: Any) -> None:
        """Begins to wait for a request."""
        self._joined = Joined(transport, self.loop)
        super().connection_made(cast("asyncio.Transport", self._joined))
        self._asking = self.loop.call_later(self.asked_s, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Waits no longer."""
        super().connection_lost(exc)
        for timer in (self._asking, self._taking):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Reads on."""
        self._unread_bytes += len(data)
        self._unset_keepalive_if_required()
        try:
            self._read(data)
        except httptools.HttpParserError:
            self._refuse(MALFORMED, "This is no HTTP request.")
        if self._unread_bytes > MOST_HEAD_BYTES:
            self._refuse(TOO_LARGE, "The head of the request is too large.")

    def on_message_begin(self) -> None:
        """A head begins."""
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keeps a header of the head; what follows a body is left."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Has the request answered. Raises BufferError where too many wait, which ends it all."""
        self._in_head, self._unread_bytes = False, 0
        if len(self.pipeline) >= MOST_PIPELINED:
            raise BufferError(f"more than {MOST_PIPELINED} requests wait; ask one by one")
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Takes a piece of a body."""
        self._unread_bytes = 0
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Sends the end of a reply at once."""
        self._joined.flush()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Begins to wait for what was written to be taken."""
        super().pause_writing()
        self._taking = self.loop.call_later(self.taken_s, self.transport.abort)

    def resume_writing(self) -> None:
        """It was taken."""
        super().resume_writing()
        if self._taking is not None:
            self._taking.cancel()

    def _read(self, data: bytes) -> None:
        """Has the parser read it, which takes an offer to upgrade for taken and leaves the body."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offered:
            if self.parser.get_method() == b"CONNECT":
                raise httptools.HttpParserError from None
            head = self._head_without_offer()
            self.parser = httptools.HttpRequestParser(self)
            self._read(head + data[offered.args[0] :])

    def _head_without_offer(self) -> bytes:
        line = b"%s %s HTTP/1.1" % (self.parser.get_method(), self.url)
        headers = (name + b": " + value for name, value in self.headers if name != b"upgrade")
        return b"\r\n".join([line, *headers, b"", b""])

    def _should_upgrade(self) -> bool:
        """Whether a request with an offer is left, to be read again."""
        return True

    def _refuse(self, status: int, message: str) -> None:
        """Closes; says why where the client would not take it for the answer that it waits for."""
        if self.transport.is_closing():
            return
        if not self._owes():
            told = f"content-length: {len(message)}\r\nconnection: close\r\n\r\n{message}"
            head = b"content-type: text/plain; charset=utf-8\r\n"
            self.transport.write(STATUS_LINE[status] + head + told.encode())
        self.transport.close()

    def _owes(self) -> bool:
        cycle: Any = self.cycle
        return cycle is not None and not cycle.response_complete

    def _give_up(self) -> None:
        asked: object = self.cycle
        if asked is None and not self.transport.is_closing():
            self.transport.close()
