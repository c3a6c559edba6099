"""Reads a request's body: bounded in bytes, in time and in depth, for one and for all together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
from starlette.types import Receive

from router.errors import InvalidInput, LeadlineError, OutboxFull

BODY_S = 30.0
MOST_DEPTH = 48
MOST_TOGETHER = 16
READ_ANYWAY = 4
"""A body this many times too large is still read, and dropped, so that its sender hears why."""


class ClientGone(Exception):
    """The client closed its connection before it had asked."""


class Bodies:
    """Counts what the bodies under way hold in memory; belongs to an event loop."""

    def __init__(self, max_bytes: int, within_s: float = BODY_S) -> None:
        self.max_bytes, self.within_s = max_bytes, within_s
        self._most = MOST_TOGETHER * max_bytes
        self.held_bytes = 0

    @contextmanager
    def room(self) -> Iterator[Body]:
        """Room for a body, until the block ends."""
        body = Body(self)
        try:
            yield body
        finally:
            self.held_bytes -= len(body.content)

    def take(self, size: int) -> None:
        """Raises OutboxFull (OVERLOADED) when the bodies under way hold too much together."""
        if self.held_bytes + size > self._most:
            raise OutboxFull(
                "the requests under way hold too much memory; try again", reason="OVERLOADED"
            )
        self.held_bytes += size


class Body:
    """One request's body."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self.content = bytearray()

    async def read(self, receive: Receive, declared: int | None) -> bytearray:
        """The whole body. Raises LeadlineError with its reason, or ClientGone."""
        most = self._bodies.max_bytes
        if declared is not None and declared > READ_ANYWAY * most:
            raise _too_large(most)
        try:
            async with asyncio.timeout(self._bodies.within_s):
                received = await self._receive(receive, most)
        except TimeoutError:
            raise LeadlineError(
                f"the body took longer than {self._bodies.within_s:g} s; send it at once",
                reason="BODY_LATE",
            ) from None
        if received > most:
            raise _too_large(most)
        return self.content

    async def _receive(self, receive: Receive, most: int) -> int:
        """How many bytes came; no more than `most` are kept."""
        received, more = 0, True
        while more and received <= READ_ANYWAY * most:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk, more = message.get("body", b""), message.get("more_body", False)
            received += len(chunk)
            if received <= most:
                self._bodies.take(len(chunk))
                self.content += chunk
        return received


def _too_large(most: int) -> InvalidInput:
    return InvalidInput(
        f"the body is over {most:,} bytes; send a shorter one, "
        "or raise LEADLINE_GATEWAY_MAX_BODY_BYTES",
        reason="BODY_TOO_LARGE",
    )


def read_json(body: bytearray) -> dict[str, Any]:
    """The object in the body. Raises InvalidInput (MALFORMED)."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise InvalidInput(f"the body is no valid JSON at {where}", reason="MALFORMED") from None
    if not isinstance(value, dict):
        raise InvalidInput("the body is no JSON object", reason="MALFORMED")
    if body.count(b"[") + body.count(b"{") > MOST_DEPTH:
        _check_depth(value)
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MOST_DEPTH):
        level = [item for each in level for item in _inside(each)]
        if not level:
            return
    raise InvalidInput(f"the body is nested deeper than {MOST_DEPTH}", reason="MALFORMED")


def _inside(value: Any) -> list[Any]:
    items = value.values() if isinstance(value, dict) else value
    return [item for item in items if isinstance(item, dict | list)]
