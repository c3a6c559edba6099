"""The demo's figures: what each way of answering brought, and what may be said of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from router.types import Arm

Z95 = 1.959964
_ENOUGH_SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How many questions are explored, how many unseen ones are routed then, and the seed."""

    explore: int = 1_500
    then: int = 500
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One question, answered: the arms that were tried, in order, and what they took together.

    `score` is that of the answer that was kept; `latency_s` is simulated.
    """

    question: int
    arms: tuple[Arm, ...]
    score: float
    cost_usd: float
    latency_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A way of answering, measured; `detail` says which arm, or how often it went on."""

    name: str
    detail: str
    questions: int
    accuracy: float
    interval: Interval
    usd_per_1000: float
    p95_latency_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """All that a demo found.

    `policy` is what `leadline train --json` said, `followed_s` how long the server took to
    serve it. `constant`, `largest` and `routed` answer the same questions.
    """

    plan: Plan
    arms: tuple[Arm, ...]
    explored: Sequence[Answered]
    policy: Mapping[str, Any]
    followed_s: float
    constant_arm: Arm
    constant: Sequence[Answered]
    largest_arm: Arm
    largest: Sequence[Answered]
    routed: Sequence[Answered]
    took_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One way against another on the same questions.

    `accuracy_gain` is the mean of the paired differences of scores, with its interval;
    the shares are of the other's cost and p95 latency.
    """

    accuracy_gain: float
    interval: Interval
    cost_share: float
    latency_share: float


def measure(name: str, detail: str, answered: Sequence[Answered]) -> Way:
    """The figures of a way from its answers, at least one."""
    scores = np.array([each.score for each in answered])
    return Way(
        name=name,
        detail=detail,
        questions=len(answered),
        accuracy=float(scores.mean()),
        interval=wilson(float(scores.sum()), len(scores)),
        usd_per_1000=1_000 * float(np.mean([each.cost_usd for each in answered])),
        p95_latency_s=float(np.quantile([each.latency_s for each in answered], 0.95)),
    )


def wilson(right: float, count: int) -> Interval:
    """Wilson's score interval of a share: of `count` answers `right` were right."""
    share, spread = right / count, Z95**2 / count
    center = share + spread / 2
    half = Z95 * sqrt(share * (1 - share) / count + spread / (4 * count))
    low, high = (center - half) / (1 + spread), (center + half) / (1 + spread)
    return Interval(low=max(low, 0.0), high=min(high, 1.0))


def compare(ours: Sequence[Answered], theirs: Sequence[Answered]) -> Comparison:
    """Compares two ways question by question; both have answered the same ones."""
    other = {each.question: each.score for each in theirs}
    gains = np.array([each.score - other[each.question] for each in ours])
    half = Z95 * float(gains.std(ddof=1)) / sqrt(len(gains)) if len(gains) > 1 else 1.0
    mean, one, two = float(gains.mean()), measure("", "", ours), measure("", "", theirs)
    return Comparison(
        accuracy_gain=mean,
        interval=Interval(low=mean - half, high=mean + half),
        cost_share=one.usd_per_1000 / two.usd_per_1000,
        latency_share=one.p95_latency_s / two.p95_latency_s,
    )


def by_arm(answered: Sequence[Answered], arms: Sequence[Arm]) -> dict[Arm, Way]:
    """The figures of every arm that was tried first on some question, in the order of `arms`."""
    found: Mapping[Arm, list[Answered]] = defaultdict(list)
    for each in answered:
        found[each.arms[0]].append(each)
    return {arm: measure(arm.key, "", found[arm]) for arm in arms if found[arm]}


def best_constant(ways: Mapping[Arm, Way]) -> Arm:
    """The most accurate arm of the log, the cheaper of equals.

    Only arms with at least half the mean number of trials count.
    """
    mean = float(np.mean([way.questions for way in ways.values()]))
    enough = {arm: way for arm, way in ways.items() if way.questions >= _ENOUGH_SHARE * mean}
    return max(enough, key=lambda arm: (enough[arm].accuracy, -enough[arm].usd_per_1000))


def largest(ways: Mapping[Arm, Way], model: str) -> Arm:
    """The most accurate arm of one model."""
    return best_constant({arm: way for arm, way in ways.items() if arm.model == model})
