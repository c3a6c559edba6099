"""Runs an arm on a question against the simulated provider, for the demo and tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from openai import AsyncOpenAI, omit
from openai.types.chat import ChatCompletion

from router.simulation.scaling import Effort, effort
from router.simulation.workload import Question, score
from router.types import Arm, Model, Strategy

THINK = "Think step by step, then end with a line 'Answer: ' and the answer alone."
IMPROVE = "Check your answer, mend what is wrong, and give the whole answer again."
SEED_BOUND = 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What running an arm on a question brought.

    `confidence` is the mean token log-probability, or for self-consistency the share
    of the samples that agree with the answer. Latency is simulated.
    """

    answer: str
    score: float
    cost_usd: float
    latency_s: float
    input_tokens: int
    output_tokens: int
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    answers: tuple[str, ...]
    contents: tuple[str, ...]
    confidence: float
    latency_s: float
    input_tokens: int
    output_tokens: int


async def run_arm(
    client: AsyncOpenAI, arm: Arm, model: Model, question: Question, rng: np.random.Generator
) -> Attempt:
    """Runs single, chain_of_thought, self_consistency or refinement.

    Raises InvalidInput for another strategy and openai.OpenAIError when a call fails.
    """
    spent = effort(arm)
    seed = int(rng.integers(SEED_BOUND))
    voted = arm.strategy == Strategy.SELF_CONSISTENCY
    calls = await _rounds(client, model, question.text, spent, seed=seed, logprobs=not voted)
    last = calls[-1]
    answer, votes = Counter(last.answers).most_common(1)[0]
    input_tokens = sum(call.input_tokens for call in calls)
    output_tokens = sum(call.output_tokens for call in calls)
    return Attempt(
        answer=answer,
        score=score(question, answer),
        cost_usd=_cost_usd(model, input_tokens, output_tokens),
        latency_s=sum(call.latency_s for call in calls),
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        confidence=votes / len(last.answers) if voted else last.confidence,
    )


async def _rounds(
    client: AsyncOpenAI, model: Model, text: str, spent: Effort, *, seed: int, logprobs: bool
) -> list[_Call]:
    system = [{"role": "system", "content": THINK}] if spent.tokens else []
    messages: list[Any] = [*system, {"role": "user", "content": text}]
    calls: list[_Call] = []
    for _ in range(spent.rounds):
        raw = await client.chat.completions.with_raw_response.create(
            model=model.endpoint_model or model.name,
            messages=messages,
            n=spent.samples,
            seed=seed,
            logprobs=logprobs,
            max_completion_tokens=spent.tokens or omit,
        )
        calls.append(_read(raw.parse(), float(raw.headers["x-simulated-latency-s"])))
        messages += [
            {"role": "assistant", "content": calls[-1].contents[0]},
            {"role": "user", "content": IMPROVE},
        ]
    return calls


def _read(completion: ChatCompletion, latency_s: float) -> _Call:
    contents = tuple(choice.message.content or "" for choice in completion.choices)
    usage = completion.usage
    return _Call(
        answers=tuple(text.rpartition("Answer:")[2].strip() for text in contents),
        contents=contents,
        confidence=_mean_logprob(completion.choices),
        latency_s=latency_s,
        input_tokens=usage.prompt_tokens if usage else 0,
        output_tokens=usage.completion_tokens if usage else 0,
    )


def _mean_logprob(choices: Sequence[Any]) -> float:
    """Mean over the tokens of the first choice; NaN without log-probabilities."""
    logprobs = choices[0].logprobs
    values = [token.logprob for token in logprobs.content] if logprobs else []
    return float(np.mean(values)) if values else float("nan")


def _cost_usd(model: Model, input_tokens: int, output_tokens: int) -> float:
    usd_per_mtok = (
        input_tokens * model.input_usd_per_mtok + output_tokens * model.output_usd_per_mtok
    )
    return usd_per_mtok / 1e6
