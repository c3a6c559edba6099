"""The learner: all that is fitted on one side of a split, and its out-of-fold predictions.

A better estimator takes the place of `AccuracyModel` here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from router.policy.spending import SpendingForecast
from router.types import Arm, Floats, Mask, Model
from training.contexts import Encoded, Projection
from training.dataset import Dataset, Indices, Rows
from training.estimators import AccuracyModel, ArmTable
from training.spending import SpendingModel

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What is predicted for q queries and a arms before calibration, every array (q, a)."""

    raw: Floats
    cost_usd: Floats
    output_tokens: Floats
    log_latency: Floats
    latency_spread: Floats

    @classmethod
    def blank(cls, queries: int, arms: int) -> Forecast:
        """A forecast that is still NaN everywhere."""
        return cls(**{name: np.full((queries, arms), np.nan) for name in cls.__slots__})

    @property
    def spending(self) -> SpendingForecast:
        """What is expected to be spent."""
        names = SpendingForecast.__slots__
        return SpendingForecast(**{name: getattr(self, name) for name in names})

    def fill(self, queries: Mask, other: Forecast) -> None:
        """Writes the other forecast's values of these queries into this one."""
        for name in self.__slots__:
            getattr(self, name)[queries] = getattr(other, name)[queries]


class Learner:
    """Fits every model on some queries' rows and predicts for all queries."""

    def __init__(self, *, arms: Sequence[Arm], models: Sequence[Model], seed: int) -> None:
        self.arms = arms
        self.models = models
        self.seed = seed

    def fit(self, encoded: Encoded, rows: Rows) -> Self:
        """Learns from the rows alone: also the projection sees no other query."""
        self.projection_ = Projection(seed=self.seed).fit(encoded, np.unique(rows.query))
        contexts = self.projection_.transform(encoded)
        self.table_ = ArmTable(self.arms, self.models).fit(rows)
        names = self.projection_.spec_.names
        self.accuracy_ = AccuracyModel(names=names, seed=self.seed).fit(contexts, self.table_, rows)
        spending = SpendingModel(arms=self.arms, models=self.models)
        self.spending_ = spending.fit(contexts, rows, encoded.counted_tokens)
        return self

    def predict(self, encoded: Encoded, queries: Mask) -> Forecast:
        """The forecast of these queries; NaN for all others."""
        contexts = self.projection_.transform(encoded)[queries]
        forecast = Forecast.blank(len(queries), len(self.arms))
        forecast.raw[queries] = self.accuracy_.predict(contexts)
        spent = self.spending_.predict(contexts, encoded.counted_tokens[queries])
        for name in SpendingForecast.__slots__:
            getattr(forecast, name)[queries] = getattr(spent, name)
        return forecast


def cross_fit(
    learner: Callable[[], Learner],
    dataset: Dataset,
    encoded: Encoded,
    fold: Indices,
    progress: Progress,
) -> Forecast:
    """Predicts every query by a learner that saw no row of its fold.

    `fold` has shape (q,); queries of a fold below 0 are left out altogether. A fold
    without a scored row outside it stays NaN.
    """
    forecast = Forecast.blank(len(dataset.queries), len(dataset.arms))
    for number in range(int(fold.max(initial=-1)) + 1):
        progress(f"fold {number + 1}")
        others = (fold >= 0) & (fold != number)
        rows = dataset.rows.take(others[dataset.rows.query])
        inside = fold == number
        if inside.any() and not np.isnan(rows.score).all():
            forecast.fill(inside, learner().fit(encoded, rows).predict(encoded, inside))
    return forecast
