"""What a provider replies, read by the backend of OpenAI-compatible endpoints."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from router.execution.backend import BackendFailed
from router.execution.calls import Call, Failure
from router.execution.openai_backend import OpenAIBackend
from router.types import Model

SPENT = {"error": {"code": "insufficient_quota", "message": "no money"}}
ANSWER = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "4"}}]}


@asynccontextmanager
async def provider(status: int, body: bytes, *headers: str) -> AsyncIterator[tuple[str, list[str]]]:
    """Replies the same to every call; yields its base URL and the heads that came."""
    heads = list[str]()

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        told = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", "connection: close"]
        writer.write("\r\n".join([*told, *headers, "", ""]).encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(reply, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", heads


def call(endpoint: str) -> Call:
    model = Model(name="m", input_usd_per_mtok=1.0, output_usd_per_mtok=4.0, endpoint=endpoint)
    return Call(model=model, messages=({"role": "user", "content": "2 + 2"},))


async def ask(backend: OpenAIBackend, endpoint: str, *, streams: bool) -> None:
    if streams:
        async with aclosing(backend.stream(call(endpoint), timeout_s=10.0)) as pieces:
            async for _ in pieces:
                pass
    else:
        await backend.complete(call(endpoint), timeout_s=10.0)


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(
    ("status", "said", "failure"),
    [
        (400, {}, Failure.REFUSED),
        (401, {}, Failure.NOT_SET_UP),
        (402, {}, Failure.NOT_SET_UP),
        (404, None, Failure.NOT_SET_UP),
        (408, {}, Failure.TIMEOUT),
        (429, {}, Failure.RATE_LIMITED),
        (429, SPENT, Failure.NOT_SET_UP),
        (503, {}, Failure.OVERLOADED),
    ],
)
async def test_each_status_is_its_failure(
    status: int, said: object, failure: Failure, *, streams: bool
) -> None:
    body = b"<html>" if said is None else json.dumps(said).encode()
    async with provider(status, body, "retry-after: 7") as (endpoint, _):
        backend = OpenAIBackend(endpoint, lambda: "")
        with pytest.raises(BackendFailed) as caught:
            await ask(backend, endpoint, streams=streams)
        await backend.close()
    assert caught.value.failure is failure
    assert caught.value.retry_after_s == 7.0


async def test_a_packed_answer_is_unpacked_and_the_key_is_the_newest() -> None:
    keys, body = ["new", "old"], gzip.compress(json.dumps(ANSWER).encode())
    async with provider(200, body, "content-encoding: gzip") as (endpoint, heads):
        backend = OpenAIBackend(endpoint, keys.pop)
        for _ in range(2):
            completion = await backend.complete(call(endpoint), timeout_s=10.0)
            assert completion.said[0].text == "4"
        await backend.close()
    assert ["Bearer old" in heads[0], "Bearer new" in heads[1]] == [True, True]


async def test_no_one_at_the_endpoint_is_unreachable() -> None:
    async with provider(200, b"") as (endpoint, _):
        pass
    backend = OpenAIBackend(endpoint, lambda: "")
    for streams in (False, True):
        with pytest.raises(BackendFailed, match="unreachable"):
            await ask(backend, endpoint, streams=streams)
    await backend.close()


async def test_a_whole_call_tells_nothing_of_this_machine() -> None:
    async with provider(200, json.dumps(ANSWER).encode()) as (endpoint, heads):
        backend = OpenAIBackend(endpoint, lambda: "")
        await ask(backend, endpoint, streams=False)
        await backend.close()
    assert "stainless" not in heads[0].lower()
