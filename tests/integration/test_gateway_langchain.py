"""LangChain against the gateway: its own ChatOpenAI unchanged, and ChatLeadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import httpx
import pytest
from langchain_core.messages import AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, SecretStr

from router.execution.calls import Said
from router.execution.deciding import Request
from router.execution.events import Event, Partial
from router.langchain import ChatLeadline
from router.store.seams import Kind
from tests.kit.gateway import Gateway, decided, final, gateway

CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Oslo"}'},
}


@tool
def weather(city: str) -> str:
    """What the weather is like in a city."""
    return f"rain in {city}"


class City(BaseModel):
    """A city."""

    city: str


async def converses(request: Request, identifier: UUID) -> AsyncGenerator[Event, None]:
    """Calls a tool where there is one that was not called yet; else says how many messages came."""
    yield decided(identifier)
    messages, options = request.task.messages, request.task.options
    if options.tools and messages[-1]["role"] != "tool":
        named = options.tools[0]["function"]["name"]
        call = CALL | {"function": {"name": named, "arguments": '{"city": "Oslo"}'}}
        said = Said(text="", finish_reason="tool_calls", tool_calls=(call,))
    else:
        said = Said(text=f"{len(messages)} messages")
        for text in ("", str(len(messages)), " messages") if request.streams else ():
            yield Partial(attempt=0, text=text)
    yield final(identifier, said)


@asynccontextmanager
async def leadline(served: Gateway, **settings: Any) -> AsyncIterator[ChatLeadline]:
    model = ChatLeadline(
        base_url=f"{served.url}/v1", api_key=SecretStr(served.key), max_retries=0, **settings
    )
    yield model
    model.client.close()
    await model.async_client.close()


@asynccontextmanager
async def models(served: Gateway) -> AsyncIterator[list[Any]]:
    async with leadline(served) as ours, httpx.AsyncClient() as awaiting:
        with httpx.Client() as blocking:
            theirs = ChatOpenAI(
                base_url=ours.base_url,
                api_key=ours.api_key,
                model="auto",
                max_retries=0,
                stream_usage=True,
                http_client=blocking,
                http_async_client=awaiting,
            )
            yield [theirs, ours]


async def test_both_answer_at_once_streamed_and_blocking() -> None:
    asked = [SystemMessage("Be brief."), HumanMessage("Hi")]
    async with gateway(converses) as served, models(served) as both:
        for model in both:
            whole = await model.ainvoke(asked)
            blocking = await asyncio.to_thread(model.invoke, asked)
            chunks = [chunk async for chunk in model.astream(asked)]
            parts = await asyncio.to_thread(list, model.stream(asked))
            assert whole.content == blocking.content == "2 messages"
            for streamed in (chunks, parts):
                together = sum(streamed[1:], streamed[0])
                assert isinstance(together, AIMessageChunk)
                assert together.content == "2 messages"
                assert together.usage_metadata is not None
                assert together.usage_metadata["total_tokens"] == 15


async def test_both_call_tools_and_are_told_what_they_brought() -> None:
    async with gateway(converses) as served, models(served) as both:
        for model in both:
            equipped = model.bind_tools([weather])
            asked: list[Any] = [HumanMessage("Weather in Oslo?")]
            called = await equipped.ainvoke(asked)
            [call] = called.tool_calls
            assert (call["name"], call["args"]) == ("weather", {"city": "Oslo"})
            streamed = [chunk async for chunk in equipped.astream(asked)]
            assert sum(streamed[1:], streamed[0]).tool_calls[0]["args"] == {"city": "Oslo"}
            brought = weather.invoke(call)
            assert isinstance(brought, ToolMessage)
            assert (await equipped.ainvoke([*asked, called, brought])).content == "3 messages"


async def test_structured_output_comes_as_its_class() -> None:
    async with gateway(converses) as served, leadline(served) as model:
        assert await model.with_structured_output(City).ainvoke("Where?") == City(city="Oslo")
        [request] = served.executor.requests
    assert request.task.options.tool_choice in (
        "required",
        {"type": "function", "function": {"name": "City"}},
    )


async def test_what_leadline_tells_is_with_the_answer_and_feedback_finds_it() -> None:
    async with (
        gateway(converses) as served,
        leadline(served, slo="fast", compute_budget=5) as model,
    ):
        answer = await model.ainvoke("Hi", compute_budget=7, subject="ann")
        streamed = [chunk async for chunk in model.astream("Hi")]
        together = sum(streamed[1:], streamed[0])
        await model.areport(answer, 1.0)
        await asyncio.to_thread(model.report, together, 0.0)
        assert len(served.outbox.records(Kind.OUTCOME)) == 2
        first, second = served.executor.requests
    assert answer.response_metadata["arm"] == "m0:single"
    assert together.response_metadata["cost_usd"] == pytest.approx(0.000125)
    assert (first.slo, first.subject, first.bounds.compute_budget) == ("fast", "ann", 7)
    assert second.bounds.compute_budget == 5


def test_a_key_does_not_show() -> None:
    model = ChatLeadline(base_url="http://localhost/v1", api_key=SecretStr("ll_secret"))
    assert "ll_secret" not in repr(model)
