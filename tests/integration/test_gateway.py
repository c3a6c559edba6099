"""The official OpenAI client against the gateway, whose executions follow a script."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import httpx
import openai
import pytest

from router.errors import Infeasible, LeadlineError
from router.execution.backend import BackendFailed
from router.execution.calls import Failure, Said
from router.execution.deciding import Request
from router.execution.events import Event, Partial, Progress
from router.gateway import streaming
from router.store.seams import Kind
from router.types import Arm, Capability
from tests.kit.gateway import Gateway, Script, decided, final, gateway

HELLO = [{"role": "user", "content": "Say hello."}]
TOOL_CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city":"Oslo"}'},
}
Events = AsyncGenerator[Event, None]


async def writes_hello(_request: Request, identifier: UUID) -> Events:
    yield decided(identifier)
    yield Progress(attempt=0, note="a call is under way")
    for text in ("Hel", "lo", "!"):
        yield Partial(attempt=0, text=text)
    yield final(identifier, Said(text="Hello!"))


async def waits(_request: Request, identifier: UUID) -> Events:
    yield decided(identifier)
    await asyncio.sleep(60)


async def writes_for_ever(_request: Request, identifier: UUID) -> Events:
    yield decided(identifier)
    while True:
        yield Partial(attempt=0, text="and ")
        await asyncio.sleep(0.01)


async def calls_a_tool(_request: Request, identifier: UUID) -> Events:
    yield decided(identifier)
    yield final(identifier, Said(text="", finish_reason="tool_calls", tool_calls=(TOOL_CALL,)))


def failing(error: Exception, *before: str) -> Script:
    async def script(_request: Request, identifier: UUID) -> Events:
        yield decided(identifier)
        for text in before:
            yield Partial(attempt=0, text=text)
        raise error

    return script


async def left_after(served: Gateway, started: float) -> float:
    """Seconds from then until the execution was left."""
    async with asyncio.timeout(5):
        await served.executor.left.wait()
    assert served.executor.left_at is not None
    return served.executor.left_at - started


async def test_an_answer_names_its_arm_its_decision_and_its_cost() -> None:
    async with gateway() as served, served.client() as client:
        raw = await client.chat.completions.with_raw_response.create(model="auto", messages=HELLO)
        answer = raw.parse()
    assert answer.choices[0].message.content == "Hello!"
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.model, answer.usage.total_tokens) == ("m0", 15)
    assert raw.headers["x-leadline-arm"] == "m0:single"
    assert float(raw.headers["x-leadline-cost-usd"]) == pytest.approx(0.000125)
    decision = UUID(raw.headers["x-leadline-decision-id"])
    assert answer.leadline["decision_id"] == str(decision)
    assert answer._request_id == str(decision)
    assert decision.hex in answer.id


async def test_a_stream_brings_text_as_it_is_written_then_usage_and_cost() -> None:
    async with gateway(writes_hello) as served, served.client() as client:
        chunks = [
            chunk
            async for chunk in await client.chat.completions.create(
                model="auto",
                messages=HELLO,
                stream=True,
                stream_options={"include_usage": True},
            )
        ]
    written = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert [text for text in written if text] == ["Hel", "lo", "!"]
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage.total_tokens == 15
    assert chunks[-1].leadline["cost_usd"] == pytest.approx(0.000125)
    assert len({chunk.id for chunk in chunks}) == 1


async def test_an_answer_that_comes_whole_is_streamed_with_progress_as_comments() -> None:
    async def script(_request: Request, identifier: UUID) -> Events:
        yield decided(identifier)
        for number in range(3):
            yield Progress(attempt=0, note=f"sample {number}\nof 3")
        yield final(identifier, Said(text="x" * (streaming.CHARACTERS + 1)))

    async with gateway(script) as served, httpx.AsyncClient() as client:
        reply = await client.post(
            f"{served.url}/v1/chat/completions",
            json={"model": "auto", "messages": HELLO, "stream": True},
            headers={"authorization": f"Bearer {served.key}"},
        )
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.headers["x-leadline-arm"] == "m0:single"
    blocks = reply.text.strip().split("\n\n")
    comments = [block for block in blocks if block.startswith(": ")]
    assert comments[1:4] == [f": sample {number} of 3" for number in range(3)]
    assert "cost_usd=0.000125" in comments[-1]
    assert all(block.startswith((": ", "data: ")) for block in blocks)
    assert blocks[-1] == "data: [DONE]"
    assert sum("xx" in block for block in blocks) == 1
    assert sum('"content":"x' in block for block in blocks) == 2


async def test_tools_and_json_are_passed_on_and_tool_calls_come_back_both_ways() -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    asked = {
        "model": "auto",
        "messages": HELLO,
        "tools": [tool],
        "tool_choice": "auto",
        "response_format": {"type": "json_object"},
    }
    async with gateway(calls_a_tool) as served, served.client() as client:
        whole = await client.chat.completions.create(**asked)
        stream = await client.chat.completions.create(**asked, stream=True)
        deltas = [chunk.choices[0].delta async for chunk in stream]
        [request, _] = served.executor.requests
    call = whole.choices[0].message.tool_calls[0]
    assert (call.function.name, call.function.arguments) == ("weather", '{"city":"Oslo"}')
    assert whole.choices[0].message.content is None
    assert [delta.tool_calls[0].index for delta in deltas if delta.tool_calls] == [0]
    assert request.needs == {Capability.TOOLS, Capability.JSON}
    assert request.task.options.tools == (tool,)
    assert request.task.options.response_format == {"type": "json_object"}


async def test_half_a_character_and_an_unknown_accuracy_are_written_all_the_same() -> None:
    async def script(_request: Request, identifier: UUID) -> Events:
        yield decided(identifier)
        yield replace(final(identifier, Said(text="half: \ud83d")), accuracy=math.nan)

    async with gateway(script) as served, served.client() as client:
        whole = await client.chat.completions.create(model="auto", messages=HELLO)
        stream = await client.chat.completions.create(model="auto", messages=HELLO, stream=True)
        streamed = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert whole.choices[0].message.content.startswith("half: ")
    assert streamed.startswith("half: ")


async def test_what_goes_wrong_after_a_reply_costs_its_client_nothing() -> None:
    async def script(_request: Request, identifier: UUID) -> Events:
        yield final(identifier, Said(text="Hello!"))
        raise ZeroDivisionError

    async with gateway(script) as served, served.client() as client:
        for _ in range(2):
            whole = await client.chat.completions.create(model="auto", messages=HELLO)
            assert whole.choices[0].message.content == "Hello!"


async def test_several_answers_come_as_several_choices() -> None:
    async def script(_request: Request, identifier: UUID) -> Events:
        yield decided(identifier)
        yield final(identifier, Said(text="one"), Said(text="two"))

    async with gateway(script) as served, served.client() as client:
        whole = await client.chat.completions.create(model="auto", messages=HELLO, n=2)
        stream = await client.chat.completions.create(
            model="auto", messages=HELLO, n=2, stream=True
        )
        texts = [(choice.index, choice.delta.content) async for c in stream for choice in c.choices]
        assert [request.task.samples for request in served.executor.requests] == [2, 2]
    assert [choice.message.content for choice in whole.choices] == ["one", "two"]
    assert [pair for pair in texts if pair[1]] == [(0, "one"), (1, "two")]


ERRORS: dict[str, tuple[Exception, int, str]] = {
    "infeasible": (Infeasible(), 422, "slo_infeasible"),
    "spent": (Infeasible("spent", reason="BUDGET_EXHAUSTED"), 429, "insufficient_quota"),
    "busy": (BackendFailed("x", failure=Failure.RATE_LIMITED), 429, "backend_rate_limited"),
    "garbage": (BackendFailed("x", failure=Failure.GARBAGE), 502, "backend_garbage"),
    "unset": (BackendFailed("x", failure=Failure.NOT_SET_UP), 503, "backend_not_set_up"),
    "slow": (BackendFailed("x", failure=Failure.TIMEOUT), 504, "backend_timeout"),
    "late": (LeadlineError("late", reason="DEADLINE"), 504, "deadline"),
    "fault": (ValueError("a secret"), 500, "internal_error"),
}


async def test_errors_before_any_text_have_their_own_status() -> None:
    async def script(request: Request, identifier: UUID) -> Events:
        yield decided(identifier)
        raise ERRORS[request.subject][0]

    async with gateway(script) as served, served.client() as client:
        for name, (_, status, code) in ERRORS.items():
            for stream in (False, True):
                with pytest.raises(openai.APIStatusError) as raised:
                    await client.chat.completions.create(
                        model="auto", messages=HELLO, stream=stream, user=name
                    )
                assert (raised.value.status_code, raised.value.code) == (status, code)
                assert "secret" not in str(raised.value)


async def test_an_error_after_text_ends_the_stream_with_it() -> None:
    broken = BackendFailed("the backend closed", failure=Failure.BROKEN_OFF)
    async with gateway(failing(broken, "Hel")) as served, served.client() as client:
        stream = await client.chat.completions.create(model="auto", messages=HELLO, stream=True)
        texts = [(await anext(stream)).choices[0].delta.content for _ in range(2)]
        with pytest.raises(openai.APIError, match="the backend closed"):
            await anext(stream)
    assert texts == ["", "Hel"]


async def test_text_that_another_attempt_voids_is_never_continued() -> None:
    async def script(_request: Request, identifier: UUID) -> Events:
        yield decided(identifier)
        yield Partial(attempt=0, text="Hel")
        yield decided(identifier, 1, Arm(model="m1", strategy="single"))
        yield final(identifier, Said(text="Good day!"), attempt=1)

    async with gateway(script) as served, served.client() as client:
        stream = await client.chat.completions.create(model="auto", messages=HELLO, stream=True)
        with pytest.raises(openai.APIError, match="ask again"):
            _ = [chunk async for chunk in stream]


async def test_a_fallback_before_any_text_is_written_as_if_it_were_the_first() -> None:
    fallback = Arm(model="m1", strategy="single")

    async def script(_request: Request, identifier: UUID) -> Events:
        yield decided(identifier)
        yield decided(identifier, 1, fallback)
        yield Partial(attempt=1, text="Good day!")
        yield final(identifier, Said(text="Good day!"), attempt=1, arm=fallback)

    async with gateway(script) as served, served.client() as client:
        stream = await client.chat.completions.create(model="auto", messages=HELLO, stream=True)
        chunks = [chunk async for chunk in stream]
    assert {chunk.model for chunk in chunks} == {"m1"}
    assert chunks[0].id.endswith("-1")


@pytest.mark.parametrize("script", [waits, writes_for_ever])
async def test_a_client_that_goes_away_ends_the_execution(script: Script) -> None:
    async with gateway(script) as served, httpx.AsyncClient() as client:
        asked = {"model": "auto", "messages": HELLO, "stream": script is writes_for_ever}
        headers = {"authorization": f"Bearer {served.key}"}
        request = client.build_request(
            "POST", f"{served.url}/v1/chat/completions", json=asked, headers=headers
        )
        task = asyncio.create_task(client.send(request, stream=True))
        await served.executor.asked.wait()
        if script is writes_for_ever:
            reply = await task
            async for _ in reply.aiter_bytes():
                break
            started = time.monotonic()
            await reply.aclose()
        else:
            started = time.monotonic()
            task.cancel()
        assert await left_after(served, started) < 5


async def test_a_client_that_waits_no_longer_gets_its_timeout_and_ends_the_execution() -> None:
    async with gateway(waits) as served, served.client(timeout=0.2) as client:
        with pytest.raises(openai.APITimeoutError):
            await client.chat.completions.create(model="auto", messages=HELLO)
        await left_after(served, time.monotonic())


async def test_a_quiet_stream_starts_and_lives_by_comments() -> None:
    async def script(_request: Request, identifier: UUID) -> Events:
        yield decided(identifier)
        await asyncio.sleep(0.2)
        yield final(identifier, Said(text="At last."))

    pace = streaming.Pace(hold_s=0.02, silent_s=0.02)
    async with gateway(script, pace=pace) as served, httpx.AsyncClient() as client:
        reply = await client.post(
            f"{served.url}/v1/chat/completions",
            json={"model": "auto", "messages": HELLO, "stream": True},
            headers={"authorization": f"Bearer {served.key}"},
        )
    assert reply.text.count(": waiting") >= 3
    assert "At last." in reply.text


async def test_a_named_model_is_its_single_pass_and_auto_may_name_an_slo() -> None:
    async with gateway() as served, served.client() as client:
        for name in ("m2", "m1:refinement?rounds=3", "auto:fast"):
            await client.chat.completions.create(model=name, messages=HELLO)
        named, arm, fast = served.executor.requests
    assert named.bounds.allowed_arms == {"m2:single"}
    assert not named.bounds.may_continue
    assert arm.bounds.allowed_arms == {"m1:refinement?rounds=3"}
    assert (fast.slo, fast.bounds.allowed_arms, fast.bounds.may_continue) == (
        "fast",
        frozenset(),
        True,
    )


async def test_extras_come_in_the_body_or_as_headers() -> None:
    async with gateway() as served, served.client() as client:
        await client.chat.completions.create(
            model="auto",
            messages=HELLO,
            user="ann",
            extra_body={"compute_budget": 10, "max_cost_usd": 0.01, "conversation_id": "c"},
            extra_headers={"x-leadline-slo": "fast", "x-leadline-max-cost-usd": "0.02"},
        )
        [request] = served.executor.requests
    assert (request.slo, request.subject, request.conversation_id) == ("fast", "ann", "c")
    assert (request.bounds.compute_budget, request.bounds.max_cost_usd) == (10, 0.02)


async def test_models_lists_auto_the_slos_and_the_catalog() -> None:
    async with gateway() as served, served.client() as client:
        names = [model.id async for model in client.models.list()]
        one = await client.models.retrieve("auto:fast")
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("nowhere/to be found")
    assert names == ["auto", "auto:fast", "m0", "m1", "m2", "m3"]
    assert one.owned_by == "leadline"


async def test_feedback_is_an_outcome_once_however_often_it_is_sent() -> None:
    async with gateway() as served, served.client() as client:
        answer = await client.chat.completions.create(model="auto", messages=HELLO)
        async with httpx.AsyncClient(headers={"authorization": f"Bearer {served.key}"}) as http:
            url, given = f"{served.url}/v1/feedback", {"completion_id": answer.id, "score": 0.5}
            replies = [await http.post(url, json=given) for _ in range(2)]
            nobodys = await http.post(url, json={"decision_id": str(uuid4()), "score": 1})
            wrong = await http.post(url, json={"completion_id": answer.id, "score": 2})
            neither = await http.post(url, json={"score": 1})
        assert len(served.outbox.records(Kind.OUTCOME)) == 1
    assert [reply.status_code for reply in replies] == [200, 200]
    assert replies[0].json() == replies[1].json()
    assert (nobodys.status_code, wrong.status_code, neither.status_code) == (404, 400, 400)
    assert wrong.json()["error"]["param"] == "score"


async def test_a_stranger_is_told_so_before_the_body_is_read() -> None:
    async with gateway() as served, served.client(api_key="wrong") as client:
        with pytest.raises(openai.AuthenticationError) as raised:
            await client.chat.completions.create(model="auto", messages=HELLO)
    assert raised.value.code == "invalid_api_key"
    assert not served.executor.requests


async def test_what_is_no_request_is_refused_in_openais_shape() -> None:
    chat = "/v1/chat/completions"
    plain: Any = {"model": "auto", "messages": HELLO}
    async with gateway(gateway_max_body_bytes=2_000) as served:
        headers = {"authorization": f"Bearer {served.key}"}
        async with httpx.AsyncClient(base_url=served.url, headers=headers) as client:
            replies = {
                404: await client.get("/v1/completions"),
                405: await client.get(chat),
                413: await client.post(chat, json=plain | {"x": "x" * 3_000}),
                415: await client.post(chat, content=b"{}", headers={"content-type": "text/plain"}),
                400: await client.post(
                    chat, content=b"[" * 1_500, headers={"content-type": "application/json"}
                ),
            }
            healthy = await client.get("/healthz", headers={"authorization": ""})
    assert {status: reply.status_code for status, reply in replies.items()} == {
        status: status for status in replies
    }
    for reply in replies.values():
        assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
    assert healthy.status_code == 200
    assert not served.executor.requests


async def test_no_more_requests_are_under_way_than_may_be() -> None:
    async with gateway(waits, max_concurrency=1) as served, served.client() as client:
        first = asyncio.create_task(client.chat.completions.create(model="auto", messages=HELLO))
        await served.executor.asked.wait()
        with pytest.raises(openai.RateLimitError) as raised:
            await client.chat.completions.create(model="auto", messages=HELLO)
        first.cancel()
        await served.executor.left.wait()
    assert raised.value.code == "overloaded"
    assert raised.value.response.headers["retry-after"] == "1"
