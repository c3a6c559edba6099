"""What compute buys a simulated model: accuracy, tokens, latency and confidence.

P(correct) = logistic(ability + gain(compute) - hardness(question)). The gains are solved
from the published rows for a model of ability 0 over questions of all difficulties
alike. The accuracy of self-consistency is not set but follows from votes over samples;
`SLOPE`, `HIDDEN_SPREAD` and `votes.WRONG_RATIO` were fitted so that its rows come out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from math import exp, log, sqrt
from statistics import NormalDist

import numpy as np

from router.errors import InvalidInput
from router.policy.scaling import MATH, REFINEMENT_FLAT_ROUNDS, SECONDS_PER_COMPUTE, measured
from router.simulation.votes import WRONG_ANSWERS, vote_accuracy, wrong_shares
from router.types import Arm, Floats, Strategy

LEVELS = 8
SLOPE = 3.0
HIDDEN_SPREAD = 0.294
BASE_OUTPUT_TOKENS = 100
SINGLE_PASS_TOKENS = 64
SAMPLE_TOKENS = 256
REFINEMENT_TOKENS = 1024
PARALLEL_SAMPLES = 10
LATENCY_SPREAD = 0.35
TOKENS_SPREAD = 0.15
CONFIDENCE_SHIFT = 1.09


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """The compute of an arm: calls of `tokens` of thought (0: none), in rounds and samples."""

    tokens: int = 0
    rounds: int = 1
    samples: int = 1

    @property
    def call_compute(self) -> float:
        """Compute of one call: published as 2x, 4x and 8x at 256, 1024 and 4096 tokens."""
        return max(1.0, sqrt(self.tokens / SINGLE_PASS_TOKENS))

    @property
    def compute(self) -> float:
        """Compute of all calls together, in single passes."""
        return self.call_compute * self.rounds * self.samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """One simulated sample; `wrong` is the index of its wrong answer, None when right."""

    wrong: int | None
    output_tokens: int
    latency_s: float
    confidence: float


def effort(arm: Arm) -> Effort:
    """Reads the arm's compute. Raises InvalidInput for a strategy that is not simulated."""
    params = arm.params
    match arm.strategy:
        case Strategy.SINGLE:
            return Effort()
        case Strategy.CHAIN_OF_THOUGHT:
            return Effort(tokens=int(params.get("tokens", SAMPLE_TOKENS)))
        case Strategy.SELF_CONSISTENCY:
            tokens = 0 if params.get("base") == Strategy.SINGLE else SAMPLE_TOKENS
            return Effort(tokens=int(params.get("tokens", tokens)), samples=int(params["samples"]))
        case Strategy.REFINEMENT:
            tokens = int(params.get("tokens", REFINEMENT_TOKENS))
            return Effort(tokens=tokens, rounds=int(params["rounds"]))
    raise InvalidInput(f"{arm.strategy} is not simulated; use another arm", field="strategy")


def hardness(difficulty: float, text: str) -> float:
    """What a question takes off the logit: its difficulty, and a share that no text shows."""
    digest = int.from_bytes(blake2b(text.encode(), digest_size=6).digest(), "big")
    hidden = NormalDist().inv_cdf((digest + 0.5) / 2**48)
    return SLOPE * (difficulty - 0.5) + HIDDEN_SPREAD * hidden


def gain(spent: Effort) -> float:
    """What compute adds to the logit of one sample; refinement flattens at its published bound."""
    computes, gains, round_step = _calibrated()
    rounds = min(spent.rounds, REFINEMENT_FLAT_ROUNDS)
    thought = float(np.interp(log(spent.call_compute), computes, gains))
    return thought + round_step * log(rounds)


def sample_accuracy(logit: float, spent: Effort) -> float:
    """Probability that one sample is right; `logit` is ability - hardness."""
    return 1 / (1 + exp(-logit - gain(spent)))


def accuracy(logit: float, arm: Arm) -> float:
    """Probability that the arm's final answer is right; `logit` is ability - hardness."""
    spent = effort(arm)
    return float(vote_accuracy(sample_accuracy(logit, spent), spent.samples))


def draw_samples(
    probability: float,
    spent: Effort,
    *,
    speed: float,
    luck: np.random.Generator,
    rng: np.random.Generator,
) -> tuple[Draw, ...]:
    """Draws the samples of one call.

    `luck` decides which are right: the same luck at more compute never loses a right
    one. `rng` decides the rest. `speed` multiplies the latency.
    """
    count = spent.samples
    right = luck.random(count) < probability
    wrong = luck.choice(WRONG_ANSWERS, size=count, p=wrong_shares())
    tokens = rng.normal(0.0, TOKENS_SPREAD, count)
    tokens = BASE_OUTPUT_TOKENS * spent.call_compute * np.exp(tokens - TOKENS_SPREAD**2 / 2)
    seconds = speed * SECONDS_PER_COMPUTE * spent.call_compute
    latency = seconds * np.exp(rng.normal(0.0, LATENCY_SPREAD, count))
    sureness = rng.normal(0.0, 1.0, count) + CONFIDENCE_SHIFT * right
    confidence = -np.exp(-1.0 - 0.5 * sureness)
    return tuple(
        Draw(
            wrong=None if right[i] else int(wrong[i]),
            output_tokens=max(1, round(tokens[i])),
            latency_s=float(latency[i]),
            confidence=float(confidence[i]),
        )
        for i in range(count)
    )


def parallel_latency_s(draws: tuple[Draw, ...]) -> float:
    """Latency of samples that run PARALLEL_SAMPLES at a time: the sum of the maxima."""
    starts = range(0, len(draws), PARALLEL_SAMPLES)
    batches = (draws[start : start + PARALLEL_SAMPLES] for start in starts)
    return sum(max(draw.latency_s for draw in batch) for batch in batches)


@cache
def _calibrated() -> tuple[Floats, Floats, float]:
    """Log computes and gains of thought, and the gain per log of refinement's rounds."""
    rows = [row for row in MATH if row.strategy in {Strategy.SINGLE, Strategy.CHAIN_OF_THOUGHT}]
    gains = [_solve(row.math_accuracy) for row in rows]
    computes = np.log([row.compute for row in rows])
    refined = measured(Strategy.REFINEMENT, rounds=3)
    one_round = float(np.interp(log(refined.compute / 3), computes, gains))
    return computes, np.array(gains), (_solve(refined.math_accuracy) - one_round) / log(3)


def _solve(target: float) -> float:
    """The logit at which the mean accuracy over all difficulties is `target`, by bisection."""
    low, high = -10.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _mean_accuracy(middle) < target else (low, middle)
    return (low + high) / 2


def _mean_accuracy(logit: float) -> float:
    points, weights = np.polynomial.hermite_e.hermegauss(31)
    visible = SLOPE * (np.arange(LEVELS) / (LEVELS - 1) - 0.5)
    values = 1 / (1 + np.exp(visible[:, None] + HIDDEN_SPREAD * points - logit))
    return float((values * weights / weights.sum()).sum(axis=1).mean())
