"""What one client can hold of a gateway: bytes, time and connections, each bounded."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvicorn
import uvloop
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from router.errors import LeadlineError, OutboxFull
from router.gateway.body import MOST_TOGETHER, READ_ANYWAY, Bodies, ClientGone
from router.gateway.connection import MOST_HEAD_BYTES, MOST_PIPELINED, Connection
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


async def test_what_others_cancel_and_what_the_work_raises_is_not_its_clients_going() -> None:
    async def late() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await while_there(sending([], then="nothing"), late())
    working = asyncio.create_task(while_there(sending([], then="nothing"), asyncio.sleep(60)))
    await asyncio.sleep(0)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working


class Impatient(Connection):
    """A connection that waits for no more than a moment."""

    asked_s = taken_s = 0.05


async def never_asked(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError(scope, receive, send)


@asynccontextmanager
async def listening(
    app: ASGIApp, kind: type[Connection] = Connection
) -> AsyncIterator[tuple[str, int]]:
    """The address of a server."""
    config, state = uvicorn.Config(app, log_config=None), ServerState()
    config.load()

    def connection() -> Connection:
        return kind(config=config, server_state=state, app_state={})

    server = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()


@asynccontextmanager
async def connected(
    app: ASGIApp, kind: type[Connection] = Connection
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to one."""
    async with listening(app, kind) as address:
        reader, writer = await asyncio.open_connection(*address)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()


@pytest.mark.parametrize("sent", [b"", b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"])
async def test_a_connection_that_asks_nothing_is_closed(sent: bytes) -> None:
    async with connected(never_asked, Impatient) as (reader, writer):
        writer.write(sent)
        async with asyncio.timeout(5):
            assert await reader.read() == b""


async def echoes(scope: Scope, receive: Receive, send: Send) -> None:
    """Replies with the path and the body."""
    body = bytearray()
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    content = scope["path"].encode() + bytes(body)
    length = [(b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": content})


async def hangs(_scope: Scope, receive: Receive, _send: Send) -> None:
    """Replies never; ends with its client."""
    while (await receive())["type"] != "http.disconnect":
        pass


def head(path: bytes = b"/", *further: bytes) -> bytes:
    return b"\r\n".join([b"POST " + path + b" HTTP/1.1", b"host: x", *further, b"", b""])


async def heard(app: ASGIApp, sent: Iterable[bytes]) -> bytes:
    """What comes back, until the connection is closed."""
    async with connected(app) as (reader, writer), asyncio.timeout(5):
        with suppress(OSError):
            for piece in sent:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
        try:
            return await reader.read()
        except ConnectionError:
            return b""


ENDLESS = [b"x" * 4_096] * (MOST_HEAD_BYTES // 4_096)
CHUNKED = head(b"/", b"transfer-encoding: chunked") + b"1\r\na\r\n"


@pytest.mark.parametrize("begun", [b"GET /", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nx: "])
async def test_a_head_that_never_ends_is_refused(begun: bytes) -> None:
    assert (await heard(never_asked, [begun, *ENDLESS])).startswith(b"HTTP/1.1 431")


@pytest.mark.parametrize("begun", [b"0\r\ntrailer: ", b"1;extension="])
async def test_what_is_neither_head_nor_body_does_not_pile_up(begun: bytes) -> None:
    assert await heard(hangs, [CHUNKED + begun, *8 * ENDLESS]) == b""


async def test_a_body_may_be_longer_than_a_head() -> None:
    size = str(sum(map(len, ENDLESS))).encode()
    last = head(b"/last", b"connection: close", b"content-length: 0")
    sent = [head(b"/", b"content-length: " + size), *ENDLESS, last]
    told = await heard(echoes, sent)
    assert told.count(b"HTTP/1.1 200 OK") == 2
    assert told.endswith(b"/last")


async def test_trailers_are_no_headers() -> None:
    async def names(scope: Scope, _receive: Receive, send: Send) -> None:
        length = [(b"content-length", b"1")]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.body", "body": b"%d" % len(scope["headers"])})

    async with connected(names) as (reader, writer), asyncio.timeout(5):
        writer.write(CHUNKED + b"0\r\nauthorization: x\r\n\r\n")
        assert (await reader.read(4_096)).endswith(b"\r\n\r\n2")


async def test_what_is_no_request_is_refused_and_never_in_place_of_an_answer() -> None:
    assert (await heard(never_asked, [b"no request\r\n\r\n"])).startswith(b"HTTP/1.1 400")
    assert await heard(hangs, [head(b"/", b"content-length: 0"), b"no request\r\n\r\n"]) == b""


async def test_a_request_that_offers_an_upgrade_is_answered_as_it_is() -> None:
    offer = (b"connection: Upgrade, HTTP2-Settings", b"upgrade: h2c", b"http2-settings: AAMAAABk")
    async with connected(echoes) as (reader, writer), asyncio.timeout(5):
        for _ in range(2):
            writer.write(head(b"/", b"content-length: 4", *offer))
            await asyncio.sleep(0.01)
            writer.write(b"body")
            assert (await reader.readuntil(b"body")).startswith(b"HTTP/1.1 200 OK")


async def test_requests_that_wait_are_answered_in_order_and_are_few() -> None:
    paths = [f"/{number:02}".encode() for number in range(MOST_PIPELINED + 1)]
    asked = [head(path, b"content-length: 0") for path in paths]
    async with connected(echoes) as (reader, writer), asyncio.timeout(5):
        writer.write(b"".join(asked))
        for path in paths:
            await reader.readuntil(b"\r\n\r\n" + path)
    assert await heard(hangs, [b"".join([*asked, asked[0]])]) == b""


def test_a_reply_is_one_packet() -> None:
    def ask(address: Any) -> bytes:
        with socket.create_connection(address) as client:
            client.sendall(head(b"/whole", b"content-length: 0"))
            return client.recv(4_096)

    async def asked() -> bytes:
        async with listening(echoes) as address:
            return await asyncio.to_thread(ask, address)

    assert uvloop.new_event_loop().run_until_complete(asked()).endswith(b"\r\n\r\n/whole")


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

    async with connected(endless, Impatient) as (_, writer):
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        async with asyncio.timeout(5):
            await ended.wait()
