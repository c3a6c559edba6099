"""A trial: ways learn from one side of a split and walk the queries of the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from router.types import Floats
from training.benchmark.scale import Scale
from training.benchmark.splits import Split, few
from training.benchmark.ways import Walked, Way, pooled
from training.learning.energy import token_table
from training.log.dataset import Dataset

Clock = Callable[[], float]
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What ways did on the same q queries over the same arms, under their names.

    `score`, `cost_usd`, `latency_s` and `tokens` (q, a) are the truth; `taken_s` are the
    seconds that each way took to fit and to walk.
    """

    arms: tuple[str, ...]
    scale: Scale
    train_queries: int
    score: Floats
    cost_usd: Floats
    latency_s: Floats
    walked: Mapping[str, Walked]
    taken_s: Mapping[str, tuple[float, float]]
    tokens: Floats | None = None


def run(split: Split, ways: Sequence[Way], progress: Progress, clock: Clock) -> Trial:
    """Runs every way on the split; all have the same values, those of the split's scale."""
    scale, test = Scale.of(split.train), split.test
    walked, taken_s = {}, {}
    for way in ways:
        progress(way.name)
        start = clock()
        way.fit(split.train)
        fitted = clock()
        walked[way.name] = way.walk(test, scale.values_usd)
        taken_s[way.name] = (fitted - start, clock() - fitted)
    return Trial(
        arms=tuple(arm.key for arm in test.arms),
        scale=scale,
        train_queries=len(split.train.queries),
        score=test.table("score"),
        cost_usd=test.table("cost_usd"),
        latency_s=test.table("latency_s"),
        walked=walked,
        taken_s=taken_s,
        tokens=token_table(test),
    )


def together(trials: Sequence[Trial]) -> Trial:
    """The queries of several folds as one trial.

    The scale is the mean of the folds'; a way's point at each place is its mean over all
    queries, each at the value that its own fold has in that place.
    """
    if len(trials) == 1:
        return trials[0]
    names = list(trials[0].walked)
    tokens = [each.tokens for each in trials if each.tokens is not None]
    times = {name: np.sum([each.taken_s[name] for each in trials], axis=0) for name in names}
    return Trial(
        arms=trials[0].arms,
        scale=Scale.mean([each.scale for each in trials]),
        train_queries=round(float(np.mean([each.train_queries for each in trials]))),
        score=np.vstack([each.score for each in trials]),
        cost_usd=np.vstack([each.cost_usd for each in trials]),
        latency_s=np.vstack([each.latency_s for each in trials]),
        walked={name: pooled([each.walked[name] for each in trials]) for name in names},
        taken_s={name: (float(fit), float(walk)) for name, (fit, walk) in times.items()},
        tokens=np.vstack(tokens) if len(tokens) == len(trials) else None,
    )


class Limited:
    """A way that is shown only so many of the training queries, picked by the seed."""

    def __init__(self, way: Way, queries: int, seed: int) -> None:
        self.way = way
        self.queries = queries
        self.seed = seed

    @property
    def name(self) -> str:
        """The way's name and the number of queries."""
        return f"{self.way.name}@{self.queries}"

    def fit(self, train: Dataset) -> Self:
        """Learns from those queries."""
        self.way.fit(few(train, self.queries, self.seed))
        return self

    def walk(self, test: Dataset, values_usd: Floats) -> Walked:
        """As Way says."""
        return self.way.walk(test, values_usd)
