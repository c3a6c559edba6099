"""The simulated provider over real HTTP, through the official client unchanged."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion

from router.errors import ConfigurationError
from router.simulation.execution import Attempt, run_arm
from router.simulation.fleet import catalog, expected_accuracy
from router.simulation.provider import MAX_BODY_BYTES, ProviderSettings, main, serve, spawn
from router.simulation.scaling import effort
from router.simulation.workload import Question, questions, score
from router.types import Arm, Strategy

SETTINGS = ProviderSettings(seed=3, count=200)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve(SETTINGS) as base_url:
        yield base_url


@pytest.fixture
async def client(url: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=url, api_key="unused", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def asked() -> list[Question]:
    return questions(SETTINGS.count, SETTINGS.seed)


async def complete(client: AsyncOpenAI, text: str, **options: Any) -> ChatCompletion:
    messages = options.pop("messages", [{"role": "user", "content": text}])
    model = options.pop("model", "sim-medium")
    completion = await client.chat.completions.create(model=model, messages=messages, **options)
    assert isinstance(completion, ChatCompletion)
    return completion


def post(url: str, body: bytes, path: str = "/chat/completions") -> tuple[int, dict[str, Any]]:
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    try:
        connection.request("POST", parts.path + path, body, {"content-type": "application/json"})
        response = connection.getresponse()
        assert response.headers["x-simulated"] == "true"
        return response.status, json.loads(response.read())["error"]
    finally:
        connection.close()


def call(**changes: Any) -> bytes:
    body = {"model": "sim-tiny", "messages": [{"role": "user", "content": "2 + 2"}]}
    return json.dumps(body | changes).encode()


async def run_all(url: str, arm: Arm, asked: list[Question], seed: int) -> list[Attempt]:
    model = catalog(url).model(arm.model)
    gate = asyncio.Semaphore(16)

    async def run(client: AsyncOpenAI, index: int) -> Attempt:
        async with gate:
            rng = np.random.default_rng([seed, index])
            return await run_arm(client, arm, model, asked[index], rng)

    async with AsyncOpenAI(base_url=url, api_key="unused", max_retries=0) as client:
        return await asyncio.gather(*(run(client, index) for index in range(len(asked))))


async def test_the_models_say_that_they_are_simulated(client: AsyncOpenAI) -> None:
    models = [model async for model in client.models.list()]
    assert [model.id for model in models] == [model.name for model in catalog().models]
    assert all("simulated" in model.model_dump()["description"] for model in models)
    assert {model.owned_by for model in models} == {"leadline-simulation"}


async def test_a_reply_says_that_it_is_simulated_and_what_latency_it_stands_for(
    client: AsyncOpenAI, asked: list[Question]
) -> None:
    raw = await client.chat.completions.with_raw_response.create(
        model="sim-tiny", messages=[{"role": "user", "content": asked[0].text}]
    )
    assert raw.headers["x-simulated"] == "true"
    assert 0.05 < float(raw.headers["x-simulated-latency-s"]) < 5


@pytest.mark.parametrize("arm", catalog().arms, ids=lambda arm: arm.key)
async def test_every_arm_runs_and_is_billed_by_its_usage(
    arm: Arm, url: str, asked: list[Question]
) -> None:
    attempts = await run_all(url, arm, asked[:8], seed=1)
    model = catalog().model(arm.model)
    for question, attempt in zip(asked, attempts, strict=False):
        assert attempt.score == score(question, attempt.answer)
        tokens = (attempt.input_tokens, attempt.output_tokens)
        price = np.dot(tokens, (model.input_usd_per_mtok, model.output_usd_per_mtok))
        assert attempt.cost_usd == pytest.approx(price / 1e6)
        agreement = arm.strategy == Strategy.SELF_CONSISTENCY
        assert 0 < attempt.confidence <= 1 if agreement else attempt.confidence < 0
    tokens_out = float(np.mean([attempt.output_tokens for attempt in attempts]))
    assert tokens_out == pytest.approx(100 * effort(arm).compute, rel=0.2)


@pytest.mark.parametrize(
    "arm",
    [
        Arm(model="sim-large", strategy=Strategy.CHAIN_OF_THOUGHT, params={"tokens": 1024}),
        Arm(model="sim-small", strategy=Strategy.SELF_CONSISTENCY, params={"samples": 10}),
        Arm(model="sim-small", strategy=Strategy.REFINEMENT, params={"rounds": 3}),
    ],
    ids=lambda arm: arm.key,
)
async def test_an_arm_is_as_accurate_over_http_as_it_is_expected_to_be(
    arm: Arm, url: str, asked: list[Question]
) -> None:
    attempts = await run_all(url, arm, asked, seed=2)
    expected = np.mean([expected_accuracy(arm, question) for question in asked])
    assert np.mean([attempt.score for attempt in attempts]) == pytest.approx(expected, abs=0.1)


async def test_the_same_rng_runs_the_same_attempt(url: str, asked: list[Question]) -> None:
    arm = Arm(model="sim-small", strategy=Strategy.SELF_CONSISTENCY, params={"samples": 5})
    first = await run_all(url, arm, asked[:10], seed=4)
    assert await run_all(url, arm, asked[:10], seed=4) == first
    assert await run_all(url, arm, asked[:10], seed=5) != first


async def test_a_seed_or_temperature_0_repeats_an_answer_and_neither_varies_it(
    client: AsyncOpenAI, asked: list[Question]
) -> None:
    text = asked[1].text

    async def tokens(**options: Any) -> list[int]:
        replies = [await complete(client, text, **options) for _ in range(6)]
        return [reply.usage.completion_tokens for reply in replies if reply.usage]

    assert len(set(await tokens(seed=5))) == 1
    assert len(set(await tokens(temperature=0))) == 1
    assert len(set(await tokens())) > 1


async def test_n_gives_samples_that_differ_unless_greedy(
    client: AsyncOpenAI, asked: list[Question]
) -> None:
    hard = next(question for question in asked if question.difficulty == 1.0)
    sampled = await complete(client, hard.text, n=20, seed=1, model="sim-tiny")
    greedy = await complete(client, hard.text, n=20, temperature=0, model="sim-tiny")
    assert len(sampled.choices) == len(greedy.choices) == 20
    assert len({choice.message.content for choice in sampled.choices}) > 2
    assert len({choice.message.content for choice in greedy.choices}) == 1


async def test_log_probabilities_come_when_asked_for(
    client: AsyncOpenAI, asked: list[Question]
) -> None:
    without = await complete(client, asked[2].text, seed=1)
    asked_for = await complete(client, asked[2].text, seed=1, logprobs=True)
    assert without.choices[0].logprobs is None
    logprobs = asked_for.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content
    assert all(token.logprob < 0 for token in logprobs.content)
    assert (
        "".join(token.token for token in logprobs.content) == asked_for.choices[0].message.content
    )


@pytest.mark.parametrize(
    ("options", "compute"),
    [
        ({}, 1),
        ({"n": None, "temperature": None, "stream": False}, 1),
        ({"reasoning_effort": "minimal"}, 1),
        ({"reasoning_effort": "low"}, 2),
        ({"reasoning_effort": "medium"}, 4),
        ({"reasoning_effort": "high"}, 8),
        ({"reasoning_effort": "low", "n": 5}, 10),
    ],
)
async def test_reasoning_effort_buys_tokens_of_thought(
    options: dict[str, Any], compute: float, client: AsyncOpenAI, asked: list[Question]
) -> None:
    replies = [await complete(client, q.text, seed=1, **options) for q in asked[:10]]
    tokens = [reply.usage.completion_tokens for reply in replies if reply.usage]
    assert float(np.mean(tokens)) == pytest.approx(100 * compute, rel=0.2)


async def test_max_tokens_caps_a_sample_and_content_may_come_in_parts(
    client: AsyncOpenAI, asked: list[Question]
) -> None:
    content = [{"type": "text", "text": asked[3].text}]
    parts = [{"role": "user", "content": content}]
    whole = await complete(client, asked[3].text, seed=1, max_tokens=20)
    in_parts = await complete(client, "", messages=parts, seed=1, max_completion_tokens=20)
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 20
    assert in_parts.choices == whole.choices


async def test_an_unknown_text_gets_a_canned_answer(client: AsyncOpenAI) -> None:
    reply = await complete(client, "What is love?", n=64)
    answers = {choice.message.content or "" for choice in reply.choices}
    assert len(answers) > 1
    assert all("simulated" in answer for answer in answers)


async def test_the_client_raises_its_own_error_for_an_unknown_model(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="does not exist") as caught:
        await complete(client, "2 + 2", model="gpt-nothing")
    assert caught.value.code == "model_not_found"


SURROGATE = rb'{"model": "sim-tiny", "messages": [{"role": "user", "content": "\ud800"}]}'


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"", 400, "not valid JSON"),
        (b"{", 400, "not valid JSON"),
        (b"[]", 400, "body"),
        (b'{"model": "\xff"}', 400, "not valid UTF-8 at byte 11"),
        (SURROGATE, 400, "not valid JSON"),
        (b"[" * 100_000, 400, "not valid JSON"),
        (b'{"model": "sim-tiny"}', 400, "messages"),
        (b'{"messages": [{"role": "user", "content": "2"}]}', 400, "model"),
        (call(messages=[]), 400, "messages"),
        (call(messages="2 + 2"), 400, "messages"),
        (call(messages=[{"role": "poet", "content": "2"}]), 400, "messages.0.role"),
        (call(n=0), 400, "n"),
        (call(n=129), 400, "n"),
        (call(max_tokens=-1), 400, "max_tokens"),
        (call(temperature=9), 400, "temperature"),
        (call(reasoning_effort="heroic"), 400, "reasoning_effort"),
        (call(stream="yes please"), 400, "stream"),
        (call(model="gpt-nothing"), 404, "does not exist"),
        (b" " * (MAX_BODY_BYTES + 1), 413, "send a shorter one"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_bad_request_is_refused_in_openais_format(
    body: bytes, status: int, says: str, url: str
) -> None:
    got, error = post(url, body)
    assert got == status
    assert says in error["message"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"


async def test_the_client_hears_of_a_body_that_is_far_too_large(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.APIStatusError, match="send a shorter one") as caught:
        await complete(client, "x" * 40_000_000)
    assert caught.value.status_code == 413


def test_a_path_that_is_not_there_is_refused_in_openais_format(url: str) -> None:
    assert post(url, b"{}", path="/embeddings")[0] == 404
    assert post(url, b"{}", path="/models")[0] == 405


async def test_injected_errors_come_at_their_rate_and_the_client_gets_over_them(
    asked: list[Question],
) -> None:
    with serve(ProviderSettings(seed=3, count=10, error_rate=0.3)) as url:
        statuses = [post(url, b"{", path="/chat/completions")[0] for _ in range(100)]
        assert 15 <= statuses.count(500) <= 45
        async with AsyncOpenAI(base_url=url, api_key="unused", max_retries=8) as client:
            assert (await complete(client, asked[0].text)).choices


async def test_an_injected_hang_meets_the_clients_timeout(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with serve(ProviderSettings(seed=3, count=1, hang_rate=1.0, hang_s=0.5)) as url:
        async with AsyncOpenAI(base_url=url, api_key="x", max_retries=0, timeout=0.1) as client:
            with pytest.raises(openai.APITimeoutError):
                await complete(client, "2 + 2")
        await asyncio.sleep(0.6)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_time_passes_at_its_scale(asked: list[Question]) -> None:
    with serve(ProviderSettings(seed=3, count=10, time_scale=0.1)) as url:
        async with AsyncOpenAI(base_url=url, api_key="unused") as client:
            started = time.perf_counter()
            raw = await client.chat.completions.with_raw_response.create(
                model="sim-reasoning", messages=[{"role": "user", "content": asked[0].text}]
            )
            waited_s = time.perf_counter() - started
    assert waited_s >= 0.1 * float(raw.headers["x-simulated-latency-s"])


async def test_a_spawned_provider_answers_as_a_served_one(
    client: AsyncOpenAI, asked: list[Question]
) -> None:
    here = await complete(client, asked[0].text, seed=1, n=5)
    with spawn(SETTINGS) as url:
        async with AsyncOpenAI(base_url=url, api_key="unused") as other:
            there = await complete(other, asked[0].text, seed=1, n=5)
    assert there.choices == here.choices


def test_a_port_in_use_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(ConfigurationError, match=f"127.0.0.1:{port}"),
            serve(ProviderSettings(count=1), port=port),
        ):
            pass
        assert main(["--port", str(port), "--count", "1"]) == 1
    assert f"127.0.0.1:{port}" in capsys.readouterr().err


def test_it_serves_at_least_300_requests_a_second(asked: list[Question]) -> None:
    body = call(messages=[{"role": "user", "content": asked[0].text}], n=10)

    def time_s(connection: HTTPConnection, requests: int) -> float:
        started = time.perf_counter()
        for _ in range(requests):
            connection.request("POST", "/v1/chat/completions", body)
            assert connection.getresponse().read()
        return time.perf_counter() - started

    with spawn(SETTINGS) as url:
        parts = urlsplit(url)
        connection = HTTPConnection(parts.hostname or "", parts.port, timeout=10)
        assert any(time_s(connection, 150) < 0.5 for _ in range(12))
        connection.close()
