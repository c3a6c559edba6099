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
class Constants:
    """What constant arms brought: the best, the largest model's best, and two that were mixed."""

    best_arm: Arm
    best: Sequence[Answered]
    largest_arm: Arm
    largest: Sequence[Answered]
    mixed_arms: tuple[Arm, Arm]
    mixed: Sequence[Answered]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """All that a demo found.

    `policy` is what `leadline train --json` said, `followed_s` how long the server took to
    serve it. `constants` and `routed` answer the same questions.
    """

    plan: Plan
    arms: tuple[Arm, ...]
    explored: Sequence[Answered]
    policy: Mapping[str, Any]
    followed_s: float
    constants: Constants
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


def tried_enough(ways: Mapping[Arm, Way]) -> dict[Arm, Way]:
    """The arms with at least half the mean number of trials."""
    mean = float(np.mean([way.questions for way in ways.values()]))
    return {arm: way for arm, way in ways.items() if way.questions >= _ENOUGH_SHARE * mean}


def best_constant(ways: Mapping[Arm, Way]) -> Arm:
    """The most accurate arm of those tried enough, the cheaper of equals."""
    enough = tried_enough(ways)
    return max(enough, key=lambda arm: (enough[arm].accuracy, -enough[arm].usd_per_1000))


def largest(ways: Mapping[Arm, Way], model: str) -> Arm:
    """The most accurate arm of one model."""
    return best_constant({arm: way for arm, way in ways.items() if arm.model == model})


def neighbours(ways: Mapping[Arm, Way], usd_per_1000: float) -> tuple[Arm, Arm]:
    """The two arms whose mixture is the most accurate at that cost, the cheaper first.

    They are next to each other on the upper concave envelope of (cost, accuracy); outside
    of it both are its end.
    """
    hull = _envelope(tried_enough(ways))
    dearer = [arm for arm in hull if ways[arm].usd_per_1000 > usd_per_1000]
    cheaper = [arm for arm in hull if ways[arm].usd_per_1000 <= usd_per_1000]
    return (cheaper or dearer)[-1 if cheaper else 0], (dearer or cheaper)[0 if dearer else -1]


def mixed(cheap: Sequence[Answered], dear: Sequence[Answered], cost_usd: float) -> list[Answered]:
    """What picking between two arms at random brings on average, at that mean cost if it can be.

    Both have answered the same questions, in the same order.
    """
    low, high = (float(np.mean([each.cost_usd for each in part])) for part in (cheap, dear))
    share = float(np.clip((cost_usd - low) / (high - low), 0.0, 1.0)) if high > low else 0.0

    def between(one: float, two: float) -> float:
        return (1.0 - share) * one + share * two

    return [
        Answered(
            question=one.question,
            arms=(*one.arms, *two.arms),
            score=between(one.score, two.score),
            cost_usd=between(one.cost_usd, two.cost_usd),
            latency_s=between(one.latency_s, two.latency_s),
        )
        for one, two in zip(cheap, dear, strict=True)
    ]


def _envelope(ways: Mapping[Arm, Way]) -> list[Arm]:
    """The arms of the upper concave envelope, the cheapest first, up to the most accurate."""
    hull: list[Arm] = []
    for arm in sorted(ways, key=lambda arm: (ways[arm].usd_per_1000, -ways[arm].accuracy)):
        if hull and ways[arm].accuracy <= ways[hull[-1]].accuracy:
            continue
        while len(hull) > 1 and _slope(ways, hull[-2], hull[-1]) <= _slope(ways, hull[-2], arm):
            hull.pop()
        hull.append(arm)
    return hull


def _slope(ways: Mapping[Arm, Way], one: Arm, two: Arm) -> float:
    rise, run = ways[two].accuracy - ways[one].accuracy, ways[two].usd_per_1000
    return rise / max(run - ways[one].usd_per_1000, 1e-12)
