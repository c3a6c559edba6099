"""What one client can hold of a gateway: bytes, time and connections, each bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from router.errors import LeadlineError, OutboxFull
from router.gateway.body import MOST_TOGETHER, READ_ANYWAY, Bodies, ClientGone
from router.gateway.connection import Connection
from router.gateway.hearing import while_there
from router.gateway.refusals import refusal


def sending(chunks: Iterable[bytes], *, then: str = "http.request") -> Receive:
    """What a client sends: chunks, and then the end, or its going, or nothing any more."""
    left = iter(chunks)

    async def receive() -> dict[str, Any]:
        chunk = next(left, None)
        if chunk is None and then == "nothing":
            await asyncio.sleep(60)
        if chunk is None:
            return {"type": then, "body": b"", "more_body": False}
        return {"type": "http.request", "body": chunk, "more_body": True}

    return receive


async def test_a_body_is_read_whole_and_given_back() -> None:
    bodies = Bodies(100)
    with bodies.room() as body:
        assert await body.read(sending([b"ab", b"cd"]), None) == b"abcd"
        assert bodies.held_bytes == 4
    assert bodies.held_bytes == 0


async def test_a_body_that_is_too_large_is_refused_and_not_held() -> None:
    bodies = Bodies(100)
    with bodies.room() as body, pytest.raises(LeadlineError) as raised:
        await body.read(sending([b"x" * 60] * 3), None)
    assert refusal(raised.value).status == 413
    with bodies.room() as body, pytest.raises(LeadlineError) as raised:
        await body.read(sending([], then="nothing"), READ_ANYWAY * 100 + 1)
    assert refusal(raised.value).status == 413
    assert bodies.held_bytes == 0


async def test_a_body_that_never_ends_is_left() -> None:
    with Bodies(100).room() as body, pytest.raises(LeadlineError) as raised:
        await body.read(sending(iter(lambda: b"x" * 60, b"")), None)
    assert refusal(raised.value).status == 413


async def test_a_slow_body_is_refused() -> None:
    with Bodies(100, within_s=0.01).room() as body, pytest.raises(LeadlineError) as raised:
        await body.read(sending([b"x"], then="nothing"), None)
    assert refusal(raised.value).status == 408


async def test_bodies_together_hold_no_more_than_they_may() -> None:
    bodies = Bodies(100)
    bodies.take(MOST_TOGETHER * 100 - 3)
    with bodies.room() as body:
        await body.read(sending([b"abc"]), None)
        with bodies.room() as other, pytest.raises(OutboxFull) as raised:
            await other.read(sending([b"d"]), None)
    assert refusal(raised.value).status == 429
    assert bodies.held_bytes == MOST_TOGETHER * 100 - 3


async def test_a_client_that_goes_while_it_sends_is_gone() -> None:
    with Bodies(100).room() as body, pytest.raises(ClientGone):
        await body.read(sending([b"a"], then="http.disconnect"), None)


async def test_work_ends_with_its_client_and_only_with_it() -> None:
    ended = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    assert not await while_there(sending([], then="http.disconnect"), work())
    assert ended == [True]
    assert await while_there(sending([], then="nothing"), asyncio.sleep(0))


class Impatient(Connection):
    """A connection that waits for no more than a moment."""

    asked_s = taken_s = 0.05


async def never_asked(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError(scope, receive, send)


@asynccontextmanager
async def connected(
    app: ASGIApp,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a server of the impatient."""
    config, state = uvicorn.Config(app, log_config=None), ServerState()
    config.load()

    def connection() -> Impatient:
        return Impatient(config=config, server_state=state, app_state={})

    server = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        yield reader, writer
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


@pytest.mark.parametrize("sent", [b"", b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"])
async def test_a_connection_that_asks_nothing_is_closed(sent: bytes) -> None:
    async with connected(never_asked) as (reader, writer):
        writer.write(sent)
        async with asyncio.timeout(5):
            assert await reader.read() == b""


async def test_a_reply_is_one_packet() -> None:
    async def replies(_scope: Scope, _receive: Receive, send: Send) -> None:
        length = [(b"content-length", b"4")]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.body", "body": b"done"})

    async with connected(replies) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await reader.read(4_096)).endswith(b"\r\n\r\ndone")


async def test_a_connection_that_takes_nothing_is_closed() -> None:
    ended = asyncio.Event()

    async def endless(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})

        async def write() -> None:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
                await asyncio.sleep(0)

        await while_there(receive, write())
        ended.set()

    async with connected(endless) as (_, writer):
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        async with asyncio.timeout(5):
            await ended.wait()
