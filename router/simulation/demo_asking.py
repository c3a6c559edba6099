"""How the demo has questions answered: through Leadline, or by one arm throughout."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from router.clients import AsyncClient, Attempt, Run
from router.errors import LeadlineError
from router.simulation.demo_figures import Answered
from router.simulation.execution import run_arm
from router.simulation.workload import Question, score
from router.types import Arm, Catalog

CONCURRENCY = 16
TIMEOUT_S = 20.0

Advance = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Answers questions with the server and the provider.

    A question's first call draws the same luck in every way, so that two ways which pick
    the same arm get the same answer and their difference is not chance.
    """

    leadline: AsyncClient
    provider: AsyncOpenAI
    catalog: Catalog
    questions: list[Question]
    seed: int

    async def route(self, numbers: Iterable[int], slo: str, advance: Advance) -> list[Answered]:
        """Has Leadline pick the arms, going on when it says so; reports every outcome."""

        async def answer(number: int) -> Answered:
            question, rng = self.questions[number], self._rng(number)
            run: Run[str] = await self.leadline.run(
                question.text,
                lambda arm: self._attempt(arm, question, rng),
                lambda text: score(question, text),
                slo=slo,
            )
            return _answered(number, run)

        return await _each(numbers, answer, advance)

    async def keep_to(self, arm: Arm, numbers: Iterable[int], advance: Advance) -> list[Answered]:
        """Answers every question with one arm, without Leadline."""

        async def answer(number: int) -> Answered:
            question, rng = self.questions[number], self._rng(number)
            made = await self._attempt(arm, question, rng)
            return Answered(
                question=number,
                arms=(arm,),
                score=score(question, made.answer),
                cost_usd=made.cost_usd or 0.0,
                latency_s=made.latency_s or 0.0,
            )

        return await _each(numbers, answer, advance)

    async def _attempt(
        self, arm: Arm, question: Question, rng: np.random.Generator
    ) -> Attempt[str]:
        model = self.catalog.model(arm.model)
        made = await run_arm(self.provider, arm, model, question, rng)
        return Attempt(
            answer=made.answer,
            confidence=made.confidence,
            cost_usd=made.cost_usd,
            input_tokens=made.input_tokens,
            output_tokens=made.output_tokens,
            latency_s=made.latency_s,
        )

    def _rng(self, number: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, number])


@asynccontextmanager
async def connected(address: str, endpoint: str) -> AsyncIterator[tuple[AsyncClient, AsyncOpenAI]]:
    """Clients of the server and of the provider; both are on this machine, past any proxy."""
    http = DefaultAsyncHttpxClient(trust_env=False)
    async with (
        AsyncClient(address, api_key="", timeout_s=TIMEOUT_S) as leadline,
        AsyncOpenAI(base_url=endpoint, api_key="simulated", http_client=http) as provider,
    ):
        yield leadline, provider


def _answered(number: int, run: Run[str]) -> Answered:
    """What a run took; raises the error why an outcome was not reported."""
    _raise_first(run.unreported)
    return Answered(
        question=number,
        arms=tuple(attempt.arm for attempt in run.attempts if attempt.arm is not None),
        score=run.attempts[run.kept].score or 0.0,
        cost_usd=sum(attempt.cost_usd or 0.0 for attempt in run.attempts),
        latency_s=sum(attempt.latency_s or 0.0 for attempt in run.attempts),
    )


def _raise_first(errors: tuple[LeadlineError, ...]) -> None:
    for error in errors:
        raise error


async def _each(
    numbers: Iterable[int], answer: Callable[[int], Awaitable[Answered]], advance: Advance
) -> list[Answered]:
    """Answers in parallel, CONCURRENCY at a time; the first failure cancels the rest."""
    waiting, done = iter(list(numbers)), list[Answered]()

    async def work() -> None:
        for number in waiting:
            done.append(await answer(number))
            advance()

    await _together([work() for _ in range(CONCURRENCY)])
    return sorted(done, key=lambda each: each.question)


async def _together(jobs: list[Any]) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            for job in jobs:
                group.create_task(job)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
