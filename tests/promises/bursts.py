"""A day of bursty traffic: queries with predictions of six arms, by a seeded generator.

What an attempt costs scatters around its prediction, and is known only when it ends.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from router.types import Floats

WORKERS = 3
DAY_S = 86_400
QUERIES = 60_000
VALUE_USD = 0.05
MOST_OVER_EXPECTED = 3.0
LIST_USD = np.array([0.0001, 0.0003, 0.0008, 0.002, 0.005, 0.012])
SKILL = np.array([-1.0, 0.0, 0.8, 1.4, 2.0, 2.5])
MICRO = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """n queries of one day in the order of their time, for a arms.

    `second`, `worker` and `took_s` are (n,); `accuracy`, `expected_usd` and `cost_usd` are
    (n, a), the last not known beforehand, and `luck` (n,) decides whether an answer is right.
    """

    second: Floats
    worker: Floats
    took_s: Floats
    accuracy: Floats
    expected_usd: Floats
    cost_usd: Floats
    luck: Floats

    def per_hour(self) -> list[float]:
        """How many queries came in each hour."""
        counts = np.bincount((self.second // 3_600).astype(int), minlength=24)
        return [float(count) for count in counts]


def bursty(seed: int, *, free_arm: bool = False, queries: int = QUERIES) -> Traffic:
    """A day with a busy afternoon and bursts of some minutes at eight times the usual rate.

    With a free arm, the weakest costs nothing.
    """
    rng = np.random.default_rng(seed)
    rate = 1.0 + 0.8 * np.sin((np.arange(DAY_S) / DAY_S - 0.35) * 2.0 * np.pi)
    for start in rng.integers(0, DAY_S, rng.poisson(12)):
        rate[start : start + int(rng.exponential(900.0))] *= 8.0
    second = np.repeat(np.arange(DAY_S), rng.poisson(rate * queries / rate.sum()))
    n = len(second)
    hardness = rng.normal(0.6, 1.4, n)[:, None] + rng.normal(0.0, 0.5, (n, len(SKILL)))
    expected = LIST_USD * rng.lognormal(0.0, 0.6, n)[:, None]
    if free_arm:
        expected[:, 0] = 0.0
    scatter = np.minimum(rng.lognormal(-0.08, 0.4, (n, 1)), MOST_OVER_EXPECTED)
    return Traffic(
        second=second.astype(float),
        worker=rng.integers(0, WORKERS, n).astype(float),
        took_s=rng.exponential(4.0, n),
        accuracy=0.95 / (1.0 + np.exp(hardness - SKILL)),
        expected_usd=expected,
        cost_usd=expected * scatter,
        luck=rng.random(n),
    )


def unbounded_usd(traffic: Traffic) -> float:
    """What the day would cost with no budget."""
    best = (VALUE_USD * traffic.accuracy - traffic.expected_usd).argmax(axis=1)
    return float(traffic.cost_usd[np.arange(len(best)), best].sum())


def in_hindsight(traffic: Traffic, budget_usd: float) -> float:
    """The accuracy of the best fixed price for the whole day, had its demand been known."""
    rows = np.arange(len(traffic.second))
    low, high = 1.0, 1e4
    for _ in range(40):
        price = (low * high) ** 0.5
        best = (VALUE_USD * traffic.accuracy - price * traffic.expected_usd).argmax(axis=1)
        over = traffic.cost_usd[rows, best].sum() > budget_usd
        low, high = (price, high) if over else (low, price)
    best = (VALUE_USD * traffic.accuracy - high * traffic.expected_usd).argmax(axis=1)
    return float((traffic.luck < traffic.accuracy[rows, best]).mean())
