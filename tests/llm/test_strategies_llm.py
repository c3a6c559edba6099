"""Each strategy with a real model: answers read, tokens counted, allowances kept, calls ended.

The model is small and its accuracy is printed, not promised.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from router.execution.allowance import Purse
from router.execution.answers import reader
from router.execution.caller import BoundedCaller, Trying
from router.execution.calls import Options, Piece
from router.execution.openai_backend import OpenAIBackend
from router.execution.strategies import strategy
from router.execution.strategy import Allowance, Answer, Task
from router.types import Model

ASK = "Question: Which city is the capital of {}?"
SHOTS = f"{ASK.format('Italy')}\nAnswer: Rome\n\n{ASK.format('Spain')}\nAnswer: Madrid\n\n"
QUESTIONS = {"France": "Paris", "Japan": "Tokyo", "Germany": "Berlin"}

PARAMS: Mapping[str, Mapping[str, Any]] = {
    "single": {},
    "chain_of_thought": {"tokens": 32},
    "self_consistency": {"samples": 3, "base": "single"},
    "refinement": {"rounds": 2, "tokens": 16},
    "tree_of_thoughts": {"depth": 2, "width": 3, "tokens": 16},
    "dynamic": {"samples": 3, "tokens": 16},
}
BOUNDS = Allowance(calls=12, output_tokens=250, seconds=280.0)


@pytest.fixture
async def backend(model: Model) -> AsyncIterator[OpenAIBackend]:
    made = OpenAIBackend(model.endpoint, lambda: "none")
    yield made
    await made.close()


def caller(
    backend: OpenAIBackend, model: Model, purse: Purse, heard: list[str | Piece] | None = None
) -> BoundedCaller:
    return BoundedCaller(
        backend,
        model,
        purse,
        trying=Trying(timeout_s=250.0),
        rng=random.Random(0),
        hear=(heard if heard is not None else []).append,
        streams=heard is not None,
    )


def task(country: str, most: int = 16) -> Task:
    message = {"role": "user", "content": SHOTS + ASK.format(country)}
    options = Options(temperature=0.0, max_output_tokens=most, seed=1, stop=("\n\n", "###"))
    return Task(messages=(message,), options=options, answer_kind="text")


@pytest.mark.parametrize("name", PARAMS)
async def test_a_strategy_answers_within_its_allowance(
    name: str, backend: OpenAIBackend, model: Model
) -> None:
    right, purses = 0, []
    for country, gold in QUESTIONS.items():
        purse = Purse(BOUNDS)
        purses.append(purse)
        ran = strategy(name).run(task(country), PARAMS[name], caller(backend, model, purse))
        answer: Answer = await ran
        assert answer.said.text.strip()
        assert purse.usage.input_tokens > 0
        assert 0 < purse.usage.output_tokens <= BOUNDS.output_tokens
        assert len(purse.made) <= BOUNDS.calls
        assert purse.cost_usd == pytest.approx(purse.usage.cost_usd(model))
        by = reader("text")
        right += answer.extracted is not None and by.same(answer.extracted, gold)
    calls = sum(len(purse.made) for purse in purses)
    tokens = sum(purse.usage.output_tokens for purse in purses)
    print(f"\n{name}: {right} of {len(QUESTIONS)} right, {calls} calls, {tokens} tokens")


async def test_an_answer_is_streamed_as_it_is_written(backend: OpenAIBackend, model: Model) -> None:
    heard: list[str | Piece] = []
    asked = caller(backend, model, Purse(BOUNDS), heard)
    answer = await strategy("single").run(task("France"), {}, asked)
    pieces = [each for each in heard if isinstance(each, Piece)]
    assert "".join(piece.text for piece in pieces) == answer.said.text


async def test_an_allowance_of_tokens_is_kept(backend: OpenAIBackend, model: Model) -> None:
    purse = Purse(Allowance(output_tokens=40, calls=10))
    asked = caller(backend, model, purse)
    await strategy("self_consistency").run(task("France", 32), {"samples": 10}, asked)
    assert purse.usage.output_tokens <= 40


async def test_who_goes_away_stops_the_model(backend: OpenAIBackend, model: Model) -> None:
    endless = Task(
        messages=({"role": "user", "content": "Count to a million."},), options=Options()
    )
    long = caller(backend, model, Purse(Allowance()), [])
    running = asyncio.create_task(strategy("single").run(endless, {}, long))
    await asyncio.sleep(1.0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    started = time.monotonic()
    short = caller(backend, model, Purse(BOUNDS))
    await strategy("single").run(task("France", 4), {}, short)
    print(f"\nthe next answer came {time.monotonic() - started:.1f} s after")
    assert len(asyncio.all_tasks()) == 1
