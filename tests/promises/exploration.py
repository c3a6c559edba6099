"""Exploration worth its cost: directed against uniform, both adding as much to the cost.

Per table and seed, a policy is learnt from 500 outcomes of random arms. Both ways explore
around its picks, with real outcomes: directed as serving does, uniform as often as adds
the same. Each log teaches a new policy; what the logs tell of both of these, where they
would pick another arm, is counted in effective outcomes, exactly and for the same targets.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Self

import numpy as np
from rich.console import Console
from rich.table import Table

from router.policy.exploration import Around, doubt
from router.policy.policy import Policy
from router.slo import Slo
from router.types import Floats
from tests.kit import bandits
from tests.kit.bound import bound
from tests.kit.embedding import embedder
from tests.kit.shared_data import SHARED_DATA
from tests.promises import Measured
from training.benchmark.gap import gap_closed
from training.benchmark.scale import Scale
from training.benchmark.splits import Split, held_out
from training.benchmark.ways import best_arms
from training.learning.policy import learn
from training.log.dataset import Dataset, Indices
from training.log.sources import read

TABLES = ("cascades", "strategies", "mmlu_pro")
SEEDS = 4
FIRST, N = 500, 5_000
RATE, SHARE = 0.3, 0.1
_VALUE = 2.0
_BATCH = 256


@dataclass(frozen=True, kw_only=True)
class Known:
    """What a policy predicts for q queries and a arms, all arrays (q, a)."""

    accuracy: Floats
    doubt: Floats
    cost_usd: Floats

    @classmethod
    def of(cls, policy: Policy, queries: tuple[str, ...]) -> Self:
        """Predicts for the queries."""
        found = [
            each.predictions
            for start in range(0, len(queries), _BATCH)
            for each in policy.predict(queries[start : start + _BATCH])
        ]
        return cls(
            accuracy=np.array([each.accuracy for each in found]),
            doubt=np.array([doubt(each) for each in found]),
            cost_usd=np.array([each.cost_usd for each in found]),
        )

    def picks(self, value_usd: float) -> Indices:
        """The best arm for each query (q,)."""
        return np.asarray(best_arms(self.accuracy, self.cost_usd, np.array([value_usd]))[0])


@dataclass(frozen=True, kw_only=True)
class Way:
    """How one way explored and what came of it: `odds` (q, a) are those of its log.

    `added` is what exploring adds to the cost, as a share of it; `effective_n` the outcomes
    that its log is worth of other picks, by target; `gap` what its policy closes, and
    `utility` what that is worth, less that of the best constant arm, in values.
    """

    odds: Floats
    rate: float
    added: float
    known: Known
    gap: float
    utility: float
    effective_n: float = 0.0


def compare(split: Split, seed: int) -> dict[str, Way]:
    """Both ways on one split."""
    train, rng = split.train, np.random.default_rng(seed)
    queries, arms = len(train.queries), len(train.arms)
    even = np.full((queries, arms), 1.0 / arms)
    start = bandits.drawn(train, even, FIRST, rng)
    value_usd = _VALUE * Scale.of(train).high_usd
    known = Known.of(_taught(start), train.queries)
    odds = _explored(known, value_usd)
    ways = {}
    for name, each in odds.items():
        logged = bandits.drawn(train, each, N, np.random.default_rng(seed + 1))
        policy = _taught(bandits.together(start, logged))
        ways[name] = _way(split, policy, known, each, value_usd)
    targets = [way.known.picks(value_usd) for way in ways.values()]
    now = known.picks(value_usd)
    return {
        name: replace(way, effective_n=_effective_n(way.odds, now, targets))
        for name, way in ways.items()
    }


def _taught(log: Dataset) -> Policy:
    return bound(learn(log, embedder=embedder()))


def _explored(known: Known, value_usd: float) -> dict[str, Floats]:
    """The probability of each arm (q, a) under both ways, which add as much to the cost."""
    slo = Slo(exploration_rate=RATE, exploration_cost_share=SHARE)
    greedy = known.picks(value_usd)
    around = Around(
        greedy=greedy,
        feasible=np.ones(known.accuracy.shape, bool),
        accuracy=known.accuracy,
        doubt=known.doubt,
        cost_usd=known.cost_usd,
        weighed_usd=known.cost_usd,
    )
    paid = np.take_along_axis(known.cost_usd, greedy[:, None], axis=1)
    directed = around.odds(value_usd)
    rate = around.rate(directed, slo, float(paid.mean()))[:, None]
    picked = np.zeros_like(directed)
    np.put_along_axis(picked, greedy[:, None], 1.0, axis=1)
    even = (1.0 - picked) / (picked.shape[1] - 1)
    dearer = np.maximum(known.cost_usd - paid, 0.0)
    added = float((rate * directed * dearer).sum(axis=1).mean())
    as_often = min(RATE, added / float((even * dearer).sum(axis=1).mean()))
    return {
        "uniform": (1.0 - as_often) * picked + as_often * even,
        "directed": (1.0 - rate) * picked + rate * directed,
    }


def _way(split: Split, policy: Policy, first: Known, odds: Floats, value_usd: float) -> Way:
    """What a way did around the first policy's picks, and the policy that its log taught."""
    train, test = split.train, split.test
    known, greedy = Known.of(policy, train.queries), first.picks(value_usd)
    paid = np.take_along_axis(first.cost_usd, greedy[:, None], axis=1)
    dearer = np.maximum(first.cost_usd - paid, 0.0)
    gap, utility = _judged(Known.of(policy, test.queries), test, Scale.of(train), value_usd)
    return Way(
        odds=odds,
        rate=float(1.0 - np.take_along_axis(odds, greedy[:, None], axis=1).mean()),
        added=float((odds * dearer).sum(axis=1).mean() / paid.mean()),
        known=known,
        gap=gap,
        utility=utility,
    )


def _judged(known: Known, test: Dataset, scale: Scale, value_usd: float) -> tuple[float, float]:
    """Gap closed over all trade-offs, and what the one at the value is worth."""
    score, cost_usd = test.table("score"), test.table("cost_usd")
    rows = np.arange(len(score))

    def points(chosen: Indices) -> Floats:
        each = [(cost_usd[rows, arms].mean(), score[rows, arms].mean()) for arms in chosen]
        return np.array(each)

    constants = np.column_stack((cost_usd.mean(axis=0), score.mean(axis=0)))
    oracle = points(best_arms(score, cost_usd, scale.values_usd))
    ours = points(best_arms(known.accuracy, known.cost_usd, scale.values_usd))
    gap = gap_closed(ours, constants, oracle, scale.budgets_usd)
    utility = value_usd * score - cost_usd
    best = float(utility.mean(axis=0).max())
    gained = float(utility[rows, known.picks(value_usd)].mean()) - best
    return float("nan") if gap is None else gap, gained / value_usd


def _effective_n(odds: Floats, now: Indices, targets: list[Indices]) -> float:
    """How many outcomes a log is worth of what targets pick instead, the mean over targets."""
    rows = np.arange(len(odds))
    found = []
    for target in targets:
        square = (target != now) * (1.0 / odds[rows, target] + 1.0 / odds[rows, now])
        found.append(N / square.mean() if square.any() else np.nan)
    return float(np.exp(np.nanmean(np.log(found))))


@cache
def compared() -> dict[str, list[dict[str, Way]]]:
    """Both ways on every table and seed."""
    found: dict[str, list[dict[str, Way]]] = {}
    for table in TABLES:
        log = Dataset.from_table(read(SHARED_DATA / f"{table}.parquet").table)
        for seed in range(SEEDS):
            found.setdefault(table, []).append(compare(held_out(log, 0.3, seed), seed))
            print(f"    {table}, seed {seed}", flush=True)
    return found


def show(found: dict[str, list[dict[str, Way]]]) -> None:
    """Prints every seed, for whoever wants more than the means."""
    shown = Table("table", "way", "explored", "added", "effective n", "gap closed", "utility")
    for table, seeds in found.items():
        for ways in seeds:
            for name, way in ways.items():
                figures = (way.rate, way.added, way.effective_n, way.gap, way.utility)
                shown.add_row(table, name, *(f"{each:.4g}" for each in figures))
    Console(width=120).print(shown)


def _paired(seeds: list[dict[str, Way]], name: str) -> tuple[float, float]:
    """How much more directed brings than uniform, and its standard error over seeds."""
    more = np.array([getattr(each["directed"], name) for each in seeds])
    more = more - np.array([getattr(each["uniform"], name) for each in seeds])
    return float(more.mean()), float(more.std(ddof=1) / np.sqrt(len(more)))


def is_worth_its_cost() -> Measured:
    """Effective outcomes by table, and what both policies close."""
    found = compared()
    show(found)
    times, told, better = {}, [], []
    for table, seeds in found.items():
        ratios = [each["directed"].effective_n / each["uniform"].effective_n for each in seeds]
        times[table] = float(np.exp(np.mean(np.log(ratios))))
        gap, error = _paired(seeds, "gap")
        told.append(f"{table} {times[table]:.1f} times, gap closed {gap:+.3f} +- {2 * error:.3f}")
        better.append(gap + 2.0 * error >= 0.0)
    added = [each["directed"].added for seeds in found.values() for each in seeds]
    return Measured(
        figures="; ".join(told) + f"; adds {max(added):.1%} of the cost at most",
        held=min(times.values()) >= 2.0 and all(better) and max(added) <= SHARE * 1.001,
    )
