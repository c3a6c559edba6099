"""Drift holds: quiet while nothing moves, and it finds and names what was planted.

Windows are drawn with replacement from the queries of a shared table, each answered by one
arm at random; predictions are ridge regressions that have not seen the query.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from tests.kit.windows import Source, changed, fewer_right, shared_source
from tests.promises import Measured
from training.drift.search import Asked, Drift, compare
from training.drift.windows import Kind, Window

TABLES = ("cascades", "strategies", "routellm", "mmlu_pro")
NULL_RUNS = 500
LEVEL = 0.05
BEFORE, NOW = 1_500, 500
PLANTED_RUNS = 40
NIGHTS = (1, 14)
PLANTED_ON = "cascades"
OUTCOMES = 5_000


def alarms(name: str, runs: int = NULL_RUNS) -> tuple[float, float]:
    """Shares of null windows in which anything was called moved, or asked for retraining."""
    source, rng = shared_source(name), np.random.default_rng(len(name))
    found = [
        compare(
            source.window(rng.integers(0, len(source.texts), BEFORE), rng),
            source.window(rng.integers(0, len(source.texts), NOW), rng),
            source.arms,
            Asked(seed=seed),
        )
        for seed in range(runs)
    ]
    moved, retrain = ([bool(each) for each in some] for some in _alarms(found))
    return float(np.mean(moved)), float(np.mean(retrain))


def _alarms(found: list[Drift]) -> tuple[list[bool], list[bool]]:
    return [bool(each.moved) for each in found], [each.retrain for each in found]


def quiet() -> Measured:
    """Whether false alarms are as rare as promised, in each table."""
    found = {name: alarms(name) for name in TABLES}
    most = binom.ppf(0.99, NULL_RUNS, LEVEL) / NULL_RUNS
    told = ", ".join(
        f"{name} {moved:.1%} (retraining {retrain:.1%})" for name, (moved, retrain) in found.items()
    )
    return Measured(
        figures=f"{NULL_RUNS} null windows each at the first look, where most is spent: {told}",
        held=all(moved <= most for moved, _ in found.values()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """A change: how both windows are drawn, and what of it has to be named."""

    name: str
    draw: Callable[[Source, np.random.Generator], tuple[Window, Window]]
    named: Callable[[Drift, Source], bool]


def _mixed(source: Source, rng: np.random.Generator) -> tuple[Window, Window]:
    """A fifth of the current queries are of one collection more, another one each time."""
    count = len(source.texts)
    chosen = str(rng.choice(sorted(set(source.kind))))
    own = np.flatnonzero(np.array(source.kind) == chosen)
    places = rng.integers(0, count, BEFORE)
    places = np.where(rng.random(BEFORE) < 0.2, rng.choice(own, BEFORE), places)
    before = source.window(rng.integers(0, count, 2 * BEFORE), rng)
    return before, source.window(places, rng)


def _worse(source: Source, rng: np.random.Generator) -> tuple[Window, Window]:
    """One arm loses 5 points, of which each window has 5,000 outcomes."""
    arms, count = rng.choice(len(source.arms), 2, replace=False), len(source.texts)
    before, now = (
        source.window(rng.integers(0, count, 2 * OUTCOMES), rng, arms=arms.tolist())
        for _ in range(2)
    )
    return before, changed(now, score=fewer_right(int(arms[0]), 0.05, rng))


def _dearer(source: Source, rng: np.random.Generator) -> tuple[Window, Window]:
    before, now = _usual(source, rng)
    return before, changed(
        now, cost_usd=lambda each: np.where(each.arm == 0, 1.5, 1.0) * each.cost_usd
    )


def _slower(source: Source, rng: np.random.Generator) -> tuple[Window, Window]:
    before, now = _usual(source, rng)
    return before, changed(
        now, latency_s=lambda each: np.where(each.arm == 0, 1.3, 1.0) * each.latency_s
    )


def _usual(source: Source, rng: np.random.Generator) -> tuple[Window, Window]:
    """Some 1,000 outcomes of each arm before, and 300 now."""
    size, count = len(source.arms), len(source.texts)
    before, now = (source.window(rng.integers(0, count, each * size), rng) for each in (1_000, 300))
    return before, now


def _any(kind: Kind) -> Callable[[Drift, Source], bool]:
    return lambda found, _: found.retrain and any(each.kind is kind for each in found.moved)


def _first(kind: Kind) -> Callable[[Drift, Source], bool]:
    return lambda found, source: (
        found.retrain
        and any(each.kind is kind and each.where == source.arms[0].key for each in found.moved)
    )


PLANTS = (
    Planted(name="20 % of the queries are others", draw=_mixed, named=_any(Kind.TOPIC)),
    Planted(name="an arm 5 points worse", draw=_worse, named=_any(Kind.ACCURACY)),
    Planted(name="a price x1.5", draw=_dearer, named=_first(Kind.PRICE)),
    Planted(name="a latency x1.3", draw=_slower, named=_first(Kind.LATENCY)),
)


def found(planted: Planted, night: int, runs: int = PLANTED_RUNS) -> float:
    """The share of runs that named the change and asked for retraining."""
    source, rng = shared_source(PLANTED_ON), np.random.default_rng(night)
    hits = [
        planted.named(
            compare(*planted.draw(source, rng), source.arms, Asked(look=night, seed=seed)), source
        )
        for seed in range(runs)
    ]
    return float(np.mean(hits))


def finds() -> Measured:
    """Whether planted changes are found on the first night and later."""
    shares = {(each.name, night): found(each, night) for each in PLANTS for night in NIGHTS}
    told = "; ".join(
        f"{each.name}: "
        + ", ".join(f"night {night} {shares[each.name, night]:.0%}" for night in NIGHTS)
        for each in PLANTS
    )
    first = [share for (_, night), share in shares.items() if night == NIGHTS[0]]
    return Measured(
        figures=f"found, named and retraining asked for: {told}", held=min(first) >= 0.9
    )


if __name__ == "__main__":
    print(quiet())
    print(finds())
