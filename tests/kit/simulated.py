"""Arms run by their strategies against a backend that knows checkable answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from router.execution.backend import Backend
from router.execution.calls import Call, Completion, Message, Options, Usage
from router.execution.openai_backend import OpenAIBackend
from router.execution.strategies import strategy
from router.execution.strategy import Task
from router.simulation.fleet import catalog
from router.simulation.provider import ProviderSettings, serve
from router.simulation.workload import Question, questions, score
from router.types import Arm, Model
from tests.kit.callers import QuietCaller

TIMEOUT_S = 60.0
SEED_STRIDE = 1_000
"""Apart enough for every call of a strategy to have a seed of its own."""


@dataclass(kw_only=True)
class BackendCaller(QuietCaller):
    """Asks one model of a backend, unbounded, and counts what is spent."""

    backend: Backend
    model: Model
    usage: Usage = field(default_factory=Usage)
    calls: int = 0

    async def ask(
        self,
        messages: Sequence[Message],
        options: Options,
        *,
        samples: int = 1,
        thought_tokens: int | None = None,
    ) -> Completion:
        """As Caller says."""
        call = Call(
            model=self.model,
            messages=tuple(messages),
            options=options,
            samples=samples,
            thought_tokens=thought_tokens,
        )
        self.calls += 1
        completion = await self.backend.complete(call, timeout_s=TIMEOUT_S)
        self.usage += completion.usage
        return completion


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What running an arm on a question brought."""

    score: float
    cost_usd: float
    input_tokens: int
    output_tokens: int
    confidence: float | None


async def run(backend: Backend, model: Model, arm: Arm, question: Question, seed: int) -> Ran:
    """Runs the arm's strategy; refinement has the model check itself."""
    caller = BackendCaller(backend=backend, model=model)
    message: Message = {"role": "user", "content": question.text}
    task = Task(messages=(message,), options=Options(seed=seed), verifier="self")
    answer = await strategy(arm.strategy).run(task, arm.params, caller)
    text = answer.said.text if answer.extracted is None else answer.extracted
    return Ran(
        score=score(question, text),
        cost_usd=caller.usage.cost_usd(model),
        input_tokens=caller.usage.input_tokens,
        output_tokens=caller.usage.output_tokens,
        confidence=answer.evidence.confidence,
    )


async def run_all(
    backend: Backend, model: Model, arm: Arm, asked: Sequence[Question], side_by_side: int = 8
) -> list[Ran]:
    """Runs the arm on every question, each with a seed of its own."""
    waiting = iter(enumerate(asked))
    found: dict[int, Ran] = {}

    async def work() -> None:
        for place, question in waiting:
            seed = place * SEED_STRIDE + _luck(arm)
            found[place] = await run(backend, model, arm, question, seed)

    async with asyncio.TaskGroup() as group:
        for _ in range(side_by_side):
            group.create_task(work())
    return [found[place] for place in range(len(asked))]


def answered(
    arms: Sequence[Arm], count: int, seed: int = 0
) -> tuple[list[Question], dict[str, list[Ran]]]:
    """So many questions, and what each arm, by its key, brought on the simulated provider."""
    asked = questions(count, seed)
    with serve(ProviderSettings(count=count, seed=seed)) as endpoint:
        return asked, asyncio.run(_answered(endpoint, arms, asked))


async def _answered(
    endpoint: str, arms: Sequence[Arm], asked: Sequence[Question]
) -> dict[str, list[Ran]]:
    backend, models = OpenAIBackend(endpoint, lambda: "simulated"), catalog(endpoint)
    try:
        return {
            arm.key: await run_all(backend, models.model(arm.model), arm, asked) for arm in arms
        }
    finally:
        await backend.close()


def _luck(arm: Arm) -> int:
    """A number of the arm's own, so that no two arms draw the same samples."""
    return int.from_bytes(blake2b(arm.key.encode(), digest_size=3).digest(), "big")


def log_rows(arm: Arm, asked: Sequence[Question], ran: Sequence[Ran]) -> list[dict[str, Any]]:
    """The rows of an outcome log."""
    return [
        {
            "query_id": question.query_id,
            "query": question.text,
            "model": arm.model,
            "strategy": arm.strategy,
            "strategy_params": json.dumps(dict(arm.params)),
            "score": each.score,
            "cost_usd": each.cost_usd,
            "input_tokens": each.input_tokens,
            "output_tokens": each.output_tokens,
            "confidence": each.confidence,
        }
        for question, each in zip(asked, ran, strict=True)
    ]
