"""Breakers, turns, hedges and keys."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from router.errors import ConfigurationError
from router.execution.backend import BackendFailed, backend_failed
from router.execution.backends import Backends, Guards
from router.execution.breaker import Breaker
from router.execution.calls import Call, Completion, Failure, Options
from router.execution.guarded import GuardedBackend
from router.execution.hedged import HedgedBackend
from router.execution.keys import Keys
from router.execution.scripted import ScriptedBackend, saying
from router.execution.tolerant import TolerantBackend
from router.types import Model

MODEL = Model(name="m", input_usd_per_mtok=1.0, output_usd_per_mtok=4.0, endpoint="http://x/v1")
CALL = Call(model=MODEL, messages=({"role": "user", "content": "2 + 2"},))
SECRET = "sk-very-secret"


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def answering(_call: Call) -> Completion | BackendFailed:
    return saying("4")


def failing(_call: Call) -> Completion | BackendFailed:
    return backend_failed(Failure.OVERLOADED, "m")


def test_a_breaker_opens_after_failures_in_a_row_and_rests_longer_each_time() -> None:
    clock = Clock()
    breaker = Breaker(failures=2, rest_s=1.0, clock=clock)
    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    assert breaker.admits()
    breaker.failed()
    assert not breaker.admits()
    clock.now_s += 1.0
    assert breaker.admits()
    assert not breaker.admits()
    breaker.failed()
    clock.now_s += 1.5
    assert not breaker.admits()
    clock.now_s += 0.5
    assert breaker.admits()
    breaker.succeeded()
    assert breaker.admits()
    assert not breaker.is_open


async def test_a_backend_that_is_down_is_left_alone() -> None:
    inner = ScriptedBackend(failing)
    guarded = GuardedBackend(inner, most=4, breaker=lambda: Breaker(failures=2))
    failures = []
    for _ in range(4):
        with pytest.raises(BackendFailed) as caught:
            await guarded.complete(CALL, timeout_s=1.0)
        failures.append(caught.value.failure)
    assert failures == [Failure.OVERLOADED] * 2 + [Failure.OPEN_CIRCUIT] * 2
    assert len(inner.calls) == 2


@pytest.mark.parametrize("failure", [Failure.RATE_LIMITED, Failure.REFUSED])
async def test_what_says_nothing_of_a_backends_health_opens_no_circuit(failure: Failure) -> None:
    inner = ScriptedBackend(lambda _: backend_failed(failure, "m"))
    guarded = GuardedBackend(inner, most=1, breaker=lambda: Breaker(failures=1))
    for _ in range(3):
        with pytest.raises(BackendFailed, match=str(failure)):
            await guarded.complete(CALL, timeout_s=1.0)


async def test_no_more_calls_are_under_way_than_a_backend_takes() -> None:
    inner = ScriptedBackend(answering, wait_s=0.2)
    guarded = GuardedBackend(inner, most=2)
    work = [asyncio.create_task(guarded.complete(CALL, timeout_s=0.1 + 0.5 * i)) for i in range(3)]
    await asyncio.sleep(0.1)
    assert len(inner.calls) == 2
    done = await asyncio.gather(*work, return_exceptions=True)
    assert sum(isinstance(each, Completion) for each in done) == 2
    assert len(inner.calls) == 3


async def test_a_turn_that_does_not_come_is_busy() -> None:
    inner = ScriptedBackend(answering, wait_s=5.0)
    guarded = GuardedBackend(inner, most=1)
    first = asyncio.create_task(guarded.complete(CALL, timeout_s=5.0))
    await asyncio.sleep(0.01)
    with pytest.raises(BackendFailed, match="busy"):
        await guarded.complete(CALL, timeout_s=0.05)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert inner.abandoned == 1


async def test_a_late_answer_is_asked_for_again_and_the_loser_is_cancelled_and_counted() -> None:
    slow, fast = ScriptedBackend(answering, wait_s=5.0), ScriptedBackend(answering)
    turns = iter((slow, fast))

    class InTurn(ScriptedBackend):
        async def complete(self, call: Call, *, timeout_s: float) -> Completion:
            return await next(turns).complete(call, timeout_s=timeout_s)

    completion = await HedgedBackend(InTurn(answering), after_s=0.02).complete(CALL, timeout_s=5.0)
    assert completion.usage.input_tokens > saying("4").usage.input_tokens
    assert slow.abandoned == 1


async def test_a_quick_answer_is_not_hedged() -> None:
    inner = ScriptedBackend(answering)
    assert await HedgedBackend(inner, after_s=1.0).complete(CALL, timeout_s=5.0) == saying("4")
    with pytest.raises(BackendFailed, match="overloaded"):
        await HedgedBackend(ScriptedBackend(failing), after_s=1.0).complete(CALL, timeout_s=5.0)
    assert len(inner.calls) == 1


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
async def test_a_provider_that_refuses_log_probabilities_is_asked_without(*, streams: bool) -> None:
    def plain_only(call: Call) -> Completion | BackendFailed:
        return backend_failed(Failure.REFUSED, "m") if call.options.logprobs else saying("4")

    inner = ScriptedBackend(plain_only)
    tolerant = TolerantBackend(inner)
    wanting = replace(CALL, options=Options(logprobs=True))
    for _ in range(2):
        if streams:
            pieces = [piece async for piece in tolerant.stream(wanting, timeout_s=1.0)]
            assert pieces[-1].completion == saying("4")
        else:
            assert await tolerant.complete(wanting, timeout_s=1.0) == saying("4")
    assert [call.options.logprobs for call in inner.calls] == [True, False, False]
    refusing = TolerantBackend(ScriptedBackend(lambda _: backend_failed(Failure.REFUSED, "m")))
    with pytest.raises(BackendFailed, match="refused"):
        await refusing.complete(wanting, timeout_s=1.0)


async def test_a_backend_is_made_once_for_each_endpoint() -> None:
    made = []

    def maker(endpoint: str, key: object) -> ScriptedBackend:  # noqa: ARG001
        made.append(endpoint)
        return ScriptedBackend(answering)

    backends = Backends(Keys({}), Guards(), {"http": maker})
    backends.prepare([replace(MODEL, endpoint="ftp://"), MODEL])
    assert made == ["http://x/v1"]
    assert backends.of(MODEL) is backends.of(MODEL)
    assert made == ["http://x/v1"]
    with pytest.raises(BackendFailed, match="no endpoint that can be called"):
        backends.of(Model(name="m", input_usd_per_mtok=1, output_usd_per_mtok=1, endpoint="ftp://"))
    await backends.close()


def test_keys_are_found_by_host_in_files_first_and_never_shown(tmp_path: Path) -> None:
    environment = {"LEADLINE_KEY_LOCALHOST_8000": SECRET, "OPENAI_API_KEY": "theirs"}
    keys = Keys(environment, tmp_path)
    key = keys.of("http://localhost:8000/v1")
    assert key() == SECRET
    assert SECRET not in repr(keys)
    assert keys.of("https://api.openai.com/v1")() == "theirs"
    assert keys.of("https://elsewhere.com/v1")() == "none"
    (tmp_path / "localhost_8000").write_text("rotated\n")
    assert key() == "rotated"
    (tmp_path / "elsewhere.com").mkdir()
    with pytest.raises(ConfigurationError, match=r"elsewhere\.com"):
        keys.of("https://elsewhere.com/v1")()
