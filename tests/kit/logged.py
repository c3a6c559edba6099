"""Samples of a log, drawn again by the strategy itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from router.execution.calls import Completion, Message, Options, Said, Usage
from router.execution.strategies.self_consistency import SelfConsistency
from router.execution.strategy import Task
from router.types import Floats
from tests.kit.callers import QuietCaller
from training.log.dataset import Indices
from training.log.samples import Samples

TASK = Task(messages=({"role": "user", "content": "logged"},), options=Options())


class LoggedCaller(QuietCaller):
    """Answers with the samples of one group, in their order; `drawn` counts them."""

    def __init__(self, answers: Indices) -> None:
        self._answers, self.drawn = answers.tolist(), 0

    async def ask(
        self,
        messages: Sequence[Message],  # noqa: ARG002
        options: Options,  # noqa: ARG002
        *,
        samples: int = 1,
        thought_tokens: int | None = None,  # noqa: ARG002
    ) -> Completion:
        """The next samples; one without an answer says nothing."""
        answers = self._answers[self.drawn : self.drawn + samples]
        self.drawn += samples
        said = tuple(Said(text="" if each < 0 else f"Answer: {each}") for each in answers)
        return Completion(said=said, usage=Usage(), latency_s=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Voted:
    """What the strategy came to on each of g groups: `drawn` samples and the `score`, (g,)."""

    drawn: Floats
    score: Floats


def vote(samples: Samples, strategies: Sequence[SelfConsistency], *, adaptive: bool) -> Voted:
    """Runs each group's strategy on its samples."""
    made = asyncio.run(_all(samples, strategies, adaptive=adaptive))
    drawn, score = zip(*made, strict=True)
    return Voted(drawn=np.array(drawn, np.float64), score=np.array(score))


async def _all(
    samples: Samples, strategies: Sequence[SelfConsistency], *, adaptive: bool
) -> list[tuple[int, float]]:
    return [
        await _one(samples, group, strategy, adaptive=adaptive)
        for group, strategy in enumerate(strategies)
    ]


async def _one(
    samples: Samples, group: int, strategy: SelfConsistency, *, adaptive: bool
) -> tuple[int, float]:
    count = int(samples.drawn[group])
    answers = samples.answer[group, :count]
    caller = LoggedCaller(answers)
    answer = await strategy.run(TASK, {"samples": count, "adaptive": adaptive}, caller)
    if answer.extracted is None:
        return caller.drawn, 0.0
    place = int(np.flatnonzero(answers == int(answer.extracted))[0])
    return caller.drawn, float(samples.score[group, place])
