"""The simulated provider's streams, tools, JSON and faults, through the official client."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from router.simulation.provider import ProviderSettings, serve

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "look_up",
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string"}, "days": {"type": "integer"}},
        },
    },
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve(ProviderSettings(seed=3, count=1)) as base_url:
        yield base_url


@pytest.fixture
async def client(url: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=url, api_key="unused", max_retries=0) as client:
        yield client
    faults(url)


def call(text: str = "2 + 2", **options: Any) -> dict[str, Any]:
    return {
        "model": "sim-medium",
        "messages": [{"role": "user", "content": text}],
        "seed": 1,
        **options,
    }


def faults(url: str, *given: dict[str, Any]) -> None:
    response = httpx.put(url.replace("/v1", "/simulated/faults"), json=given)
    assert response.status_code == 200


def counters(url: str) -> dict[str, Any]:
    counted: dict[str, Any] = httpx.get(url.replace("/v1", "/simulated/counters")).json()
    return counted


async def test_a_stream_is_the_answer_in_parts_with_its_usage_at_the_end(
    client: AsyncOpenAI,
) -> None:
    whole = await client.chat.completions.create(**call())
    stream = await client.chat.completions.create(
        **call(stream=True, stream_options={"include_usage": True}, logprobs=True)
    )
    chunks = [chunk async for chunk in stream]
    texts = [c.choices[0].delta.content for c in chunks if c.choices]
    assert "".join(text or "" for text in texts) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert all(c.usage is None for c in chunks[:-1])
    assert chunks[1].choices[0].logprobs is not None


async def test_a_tool_is_called_where_the_prompt_asks_and_its_result_is_told(
    client: AsyncOpenAI,
) -> None:
    asked = call("Please look up Paris for 3 days", tools=[TOOL])
    reply = (await client.chat.completions.create(**asked)).choices[0]
    assert reply.finish_reason == "tool_calls"
    assert reply.message.tool_calls is not None
    arguments = json.loads(reply.message.tool_calls[0].function.arguments)
    assert arguments["days"] == 3
    stream = await client.chat.completions.create(**asked, stream=True)
    parts = [c.choices[0].delta.tool_calls async for c in stream if c.choices]
    text = "".join(each.function.arguments or "" for part in parts if part for each in part)
    assert json.loads(text) == arguments
    told = [
        *asked["messages"],
        {"role": "assistant", "tool_calls": reply.message.model_dump()["tool_calls"]},
        {"role": "tool", "tool_call_id": "call_look_up", "content": "rain"},
    ]
    after = await client.chat.completions.create(**{**asked, "messages": told})
    assert after.choices[0].message.content == "Answer: rain"
    plain = await client.chat.completions.create(**call(tools=[TOOL]))
    assert plain.choices[0].message.tool_calls is None


async def test_json_mode_answers_as_an_object_of_the_schema(client: AsyncOpenAI) -> None:
    asked = call(response_format={"type": "json_object"})
    reply = await client.chat.completions.create(**asked)
    assert set(json.loads(reply.choices[0].message.content)) == {"answer"}
    schema = {"properties": {"value": {"type": "string"}, "sure": {"type": "boolean"}}}
    asked["response_format"] = {
        "type": "json_schema",
        "json_schema": {"name": "it", "schema": schema},
    }
    reply = await client.chat.completions.create(**asked)
    assert set(json.loads(reply.choices[0].message.content)) == {"value", "sure"}


async def test_each_fault_comes_as_often_as_it_was_set_and_for_its_model(
    client: AsyncOpenAI, url: str
) -> None:
    faults(
        url,
        {"kind": "rate_limit", "times": 1, "seconds": 0.5},
        {"kind": "error", "times": 1},
        {"kind": "close", "times": 1},
        {"kind": "half", "times": 1},
        {"kind": "error", "model": "sim-tiny"},
    )
    with pytest.raises(openai.RateLimitError) as limited:
        await client.chat.completions.create(**call())
    assert limited.value.response.headers["retry-after"] == "0.5"
    with pytest.raises(openai.InternalServerError):
        await client.chat.completions.create(**call())
    for _ in range(2):
        with pytest.raises(openai.APIConnectionError):
            await client.chat.completions.create(**call())
    assert (await client.chat.completions.create(**call())).choices


async def test_half_a_stream_ends_without_its_end(client: AsyncOpenAI, url: str) -> None:
    faults(url, {"kind": "half", "times": 1})
    stream = await client.chat.completions.create(**call(stream=True))
    got: list[object] = []
    with pytest.raises(openai.APIConnectionError):
        await gather(stream, got)
    assert 0 < len(got) < 12


@pytest.mark.parametrize("streams", [False, True])
async def test_a_client_that_leaves_is_noticed_at_once(*, streams: bool) -> None:
    with serve(ProviderSettings(seed=3, count=1, time_scale=20.0)) as slow:
        async with AsyncOpenAI(base_url=slow, api_key="unused", max_retries=0) as client:
            asking = asyncio.create_task(drain(client, call(stream=streams)))
            await asyncio.sleep(0.3)
            left_at = time.time()
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        while not (counted := counters(slow))["abandoned"]:
            assert time.time() - left_at < 5
            await asyncio.sleep(0.01)
    assert counted["abandoned_at"] - left_at < 0.5


async def gather(stream: Any, got: list[object]) -> None:
    async for chunk in stream:
        got.append(chunk)  # noqa: PERF401 (what came before it broke off counts)


async def drain(client: AsyncOpenAI, asked: dict[str, Any]) -> None:
    reply = await client.chat.completions.create(**asked)
    if asked["stream"]:
        async for _ in reply:
            pass
