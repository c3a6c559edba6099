"""The laws of a Backend, held to the in-memory twin and to real HTTP by two libraries."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from itertools import product
from typing import Any

import httpx
import pytest

from router.execution.backend import Backend, BackendFailed, backend_failed
from router.execution.calls import Call, Completion, Failure, Options
from router.execution.litellm_backend import LiteLLMBackend
from router.execution.openai_backend import OpenAIBackend
from router.execution.scripted import ScriptedBackend, saying
from router.simulation.provider import ProviderSettings, serve
from router.types import Model

TIMEOUT_S = 10.0
LEAVING = {"rate_limit": Failure.RATE_LIMITED, "error": Failure.OVERLOADED}
SPENDING = {"garbage": Failure.GARBAGE, "half": Failure.BROKEN_OFF, "close": Failure.BROKEN_OFF}


@dataclass(frozen=True, kw_only=True)
class Given:
    """A backend under test, and how to have its provider fail, be slow and tell who left."""

    backend: Backend
    model: Model
    slow: Backend
    slow_model: Model
    url: str = ""
    slow_url: str = ""
    twin: ScriptedBackend | None = None
    slow_twin: ScriptedBackend | None = None
    fails: dict[str, Failure] | None = None

    def fail(self, kind: str) -> None:
        if self.fails is not None:
            self.fails["next"] = {**LEAVING, **SPENDING}[kind]
        else:
            put(self.url, [{"kind": kind, "times": 1}])

    def abandoned(self) -> int:
        return self.slow_twin.abandoned if self.slow_twin is not None else self._told("abandoned")

    def arrived(self) -> int:
        return len(self.slow_twin.calls) if self.slow_twin is not None else self._told("calls")

    def _told(self, counter: str) -> int:
        found = httpx.get(self.slow_url.replace("/v1", "/simulated/counters")).json()
        return int(found[counter])

    def call(self, **options: Any) -> Call:
        return ask(self.model, **options)


def put(url: str, faults: list[dict[str, Any]]) -> None:
    assert httpx.put(url.replace("/v1", "/simulated/faults"), json=faults).status_code == 200


def ask(model: Model, samples: int = 1, **options: Any) -> Call:
    message = {"role": "user", "content": "What is 2 + 2?"}
    return Call(model=model, messages=(message,), options=Options(**options), samples=samples)


@pytest.fixture(scope="module")
def urls() -> Iterator[tuple[str, str]]:
    settings = ProviderSettings(seed=3, count=1)
    slow = ProviderSettings(seed=3, count=1, time_scale=20.0)
    with serve(settings) as url, serve(slow) as slow_url:
        yield url, slow_url


LOOSE = pytest.mark.filterwarnings("ignore")  # litellm warns of itself


@pytest.fixture(params=["twin", "openai", pytest.param("litellm", marks=LOOSE)])
async def given(request: pytest.FixtureRequest, urls: tuple[str, str]) -> AsyncIterator[Given]:
    made = twins() if request.param == "twin" else over_http(request.param, *urls)
    yield made
    for backend in (made.backend, made.slow):
        await backend.close()
        await backend.close()


def twins() -> Given:
    fails: dict[str, Failure] = {}

    def script(call: Call) -> Completion | BackendFailed:
        if "next" in fails:
            failure = fails.pop("next")
            spent = saying("four").usage if failure in SPENDING.values() else None
            return backend_failed(failure, call.model.name, usage=spent)
        confidence = -0.5 if call.options.logprobs else None
        return saying(*["Answer: 4"] * call.samples, confidence=confidence)

    fast, slow = ScriptedBackend(script), ScriptedBackend(script, wait_s=20.0)
    model = Model(name="sim-medium", input_usd_per_mtok=1, output_usd_per_mtok=4)
    return Given(
        backend=fast, model=model, slow=slow, slow_model=model, slow_twin=slow, fails=fails
    )


def over_http(library: str, url: str, slow_url: str) -> Given:
    put(url, [])
    kind = OpenAIBackend if library == "openai" else LiteLLMBackend

    def named(endpoint: str) -> Model:
        name = "sim-medium" if library == "openai" else "openai/sim-medium"
        return Model(
            name="sim-medium",
            input_usd_per_mtok=1,
            output_usd_per_mtok=4,
            endpoint=endpoint,
            endpoint_model=name,
        )

    return Given(
        backend=kind(url, lambda: "a-key"),
        model=named(url),
        slow=kind(slow_url, lambda: "a-key"),
        slow_model=named(slow_url),
        url=url,
        slow_url=slow_url,
    )


async def drained(backend: Backend, call: Call, timeout_s: float = TIMEOUT_S) -> tuple[str, Any]:
    text, completion = "", None
    async with aclosing(backend.stream(call, timeout_s=timeout_s)) as pieces:
        async for piece in pieces:
            assert completion is None
            text, completion = text + piece.text, piece.completion
    return text, completion


async def work(backend: Backend, call: Call, timeout_s: float, *, streams: bool) -> None:
    if streams:
        await drained(backend, call, timeout_s)
    else:
        await backend.complete(call, timeout_s=timeout_s)


async def test_a_completion_has_an_answer_for_each_sample_and_what_was_billed(
    given: Given,
) -> None:
    one = await given.backend.complete(given.call(logprobs=True), timeout_s=TIMEOUT_S)
    many = await given.backend.complete(given.call(samples=3), timeout_s=TIMEOUT_S)
    assert len(one.said) == 1
    assert one.said[0].text
    assert one.said[0].confidence is not None
    assert one.said[0].confidence < 0
    assert len(many.said) == 3
    assert many.said[0].confidence is None
    assert many.usage.output_tokens > one.usage.output_tokens > 0
    assert one.usage.input_tokens > 0


async def test_a_stream_is_the_answer_in_pieces_and_ends_with_the_whole(given: Given) -> None:
    text, completion = await drained(given.backend, given.call(seed=1, logprobs=True))
    whole = await given.backend.complete(given.call(seed=1, logprobs=True), timeout_s=TIMEOUT_S)
    assert completion is not None
    assert completion.said[0].text == text == whole.said[0].text
    assert completion.usage == whole.usage
    assert completion.said[0].confidence == pytest.approx(whole.said[0].confidence)
    assert 0 <= completion.time_to_first_token_s <= completion.latency_s


@pytest.mark.parametrize(
    ("given", "kind", "streams"),
    [
        *product(("twin", "openai"), (*LEAVING, *SPENDING), (False, True)),
        pytest.param("litellm", "rate_limit", False, marks=LOOSE),
        pytest.param("litellm", "half", True, marks=LOOSE),
    ],
    indirect=["given"],
)
async def test_each_fault_is_its_failure_without_a_word_of_the_prompt(
    given: Given, kind: str, *, streams: bool
) -> None:
    given.fail(kind)
    with pytest.raises(BackendFailed) as caught:
        await work(given.backend, given.call(), TIMEOUT_S, streams=streams)
    assert caught.value.failure is {**LEAVING, **SPENDING}[kind]
    assert "2 + 2" not in caught.value.message
    assert "sim-medium" in caught.value.message
    assert (caught.value.usage.input_tokens > 0) == (kind in SPENDING)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
async def test_an_answer_that_does_not_come_in_time_is_a_timeout(
    given: Given, *, streams: bool
) -> None:
    started, call = time.monotonic(), ask(given.slow_model)
    with pytest.raises(BackendFailed) as caught:
        await work(given.slow, call, 0.2, streams=streams)
    assert caught.value.failure is Failure.TIMEOUT
    assert time.monotonic() - started < 5.0


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
async def test_leaving_reaches_the_provider(given: Given, *, streams: bool) -> None:
    before, call = given.abandoned(), ask(given.slow_model)
    arrived = given.arrived()
    task = asyncio.create_task(work(given.slow, call, TIMEOUT_S, streams=streams))
    async with asyncio.timeout(20.0):
        while given.arrived() == arrived:  # noqa: ASYNC110 (the provider is another process)
            await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(5.0):
        while given.abandoned() == before:  # noqa: ASYNC110 (the provider is another process)
            await asyncio.sleep(0.01)
