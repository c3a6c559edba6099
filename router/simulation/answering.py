"""How the simulated provider answers: from what a call asks to samples and usage. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b

import numpy as np

from router.simulation.answers import unknown_question, wrong_answers
from router.simulation.fleet import SimulatedModel
from router.simulation.scaling import (
    Draw,
    Effort,
    draw_samples,
    parallel_latency_s,
    sample_accuracy,
)
from router.simulation.workload import Question


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One call: who is asked what, with how much compute.

    `key` makes the draw: the same key, text, model and tokens of thought get the same
    luck, so that a later round of the same key never loses a right answer.
    """

    model: SimulatedModel
    text: str
    effort: Effort
    key: str
    greedy: bool = False
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One sampled answer with what it took; `confidence` is its mean log-probability."""

    content: str
    output_tokens: int
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The samples of one call and its simulated latency."""

    samples: tuple[Sample, ...]
    latency_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    question: Question
    wrong: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Respondent:
    """Answers calls about the questions it knows; the same ask always gets the same reply."""

    seed: int
    known: Mapping[str, _Known] = field(repr=False)

    @classmethod
    def of(cls, questions: Iterable[Question], seed: int) -> Respondent:
        """Prepares right and wrong answers of every question."""
        known = {question.text: _know(question) for question in questions}
        return cls(seed=seed, known=known)

    def knows(self, text: str) -> bool:
        """Whether the text is a question of the workload."""
        return text in self.known

    def reply(self, ask: Ask) -> Reply:
        """Draws the samples; a greedy ask gets the same sample throughout."""
        known = self.known.get(ask.text) or _know(unknown_question(ask.text))
        draws = self._draws(ask, known.question)
        samples = tuple(_sample(draw, ask, known) for draw in draws)
        return Reply(samples=samples, latency_s=parallel_latency_s(draws))

    def _draws(self, ask: Ask, question: Question) -> tuple[Draw, ...]:
        name = ask.model.model.name
        base = f"{self.seed}|{name}|{ask.effort.tokens}|{ask.key}|{ask.text}"
        single = replace(ask.effort, samples=1)
        draws = draw_samples(
            sample_accuracy(ask.model.logit(question), single),
            single if ask.greedy else ask.effort,
            speed=ask.model.speed,
            luck=_generator(base),
            rng=_generator(f"{ask.effort.rounds}|{base}"),
        )
        return draws * ask.effort.samples if ask.greedy else draws


def _know(question: Question) -> _Known:
    return _Known(question=question, wrong=wrong_answers(question))


def _sample(draw: Draw, ask: Ask, known: _Known) -> Sample:
    answer = known.question.answer if draw.wrong is None else known.wrong[draw.wrong]
    thinks = ask.effort.tokens > 0
    tokens = draw.output_tokens
    return Sample(
        content=f"(simulated steps)\nAnswer: {answer}" if thinks else answer,
        output_tokens=min(tokens, ask.max_tokens) if ask.max_tokens else tokens,
        confidence=draw.confidence,
    )


def _generator(key: str) -> np.random.Generator:
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))
