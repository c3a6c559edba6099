"""Arms run by their strategies against a backend that knows checkable answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

from router.execution.backend import Backend
from router.execution.calls import Call, Completion, Message, Options, Piece, Usage
from router.execution.strategies import strategy
from router.execution.strategy import Allowance, Task
from router.simulation.workload import Question, score
from router.types import Arm, Model

TIMEOUT_S = 60.0
UNBOUNDED = Allowance()


@dataclass(kw_only=True)
class BackendCaller:
    """Asks one model of a backend, unbounded, and counts what is spent."""

    backend: Backend
    model: Model
    usage: Usage = field(default_factory=Usage)
    calls: int = 0
    reasons: bool = False
    streams: bool = False

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

    def stream(
        self, messages: Sequence[Message], options: Options, *, thought_tokens: int | None = None
    ) -> AsyncGenerator[Piece, None]:
        """Is not asked for."""
        raise NotImplementedError

    def left(self) -> Allowance:
        """All there is."""
        return UNBOUNDED

    def tell(self, progress: str) -> None:
        """Tells nobody."""

    def write(self, piece: Piece) -> None:
        """Writes to nobody."""


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
    backend: Backend, model: Model, arm: Arm, questions: Sequence[Question], side_by_side: int = 8
) -> list[Ran]:
    """Runs the arm on every question; the seed is the question's place, plus a stride apart."""
    waiting = iter(enumerate(questions))
    found: dict[int, Ran] = {}

    async def work() -> None:
        for place, question in waiting:
            found[place] = await run(backend, model, arm, question, place * SEED_STRIDE)

    async with asyncio.TaskGroup() as group:
        for _ in range(side_by_side):
            group.create_task(work())
    return [found[place] for place in range(len(questions))]


SEED_STRIDE = 1_000
"""Apart enough for every call of a strategy to have a seed of its own."""


def log_rows(arm: Arm, questions: Sequence[Question], ran: Sequence[Ran]) -> list[dict[str, Any]]:
    """The rows of an outcome log."""
    return [
        {
            "query_id": question.query_id,
            "query": question.text,
            "model": arm.model,
            "strategy": arm.strategy,
            "params": dict(arm.params),
            "score": each.score,
            "cost_usd": each.cost_usd,
            "input_tokens": each.input_tokens,
            "output_tokens": each.output_tokens,
            "confidence": each.confidence,
        }
        for question, each in zip(questions, ran, strict=True)
    ]
