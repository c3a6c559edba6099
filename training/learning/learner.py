"""The learner: all that is fitted on one side of a split, and its out-of-fold predictions.

Within its side, whatever a row's label could leak into is fitted on the other folds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from router.policy.spending import SpendingForecast
from router.types import Arm, Floats, Mask, Model
from training.learning.contexts import Contexts, Encoded, Projection
from training.learning.estimators import AccuracyModel
from training.learning.recipe import WHOLE, Recipe
from training.learning.spending import SpendingModel
from training.log.dataset import Indices, Rows

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

    def fill(self, queries: Mask | Indices, raw: Floats, spent: SpendingForecast) -> None:
        """Writes what was predicted of these queries."""
        self.raw[queries] = raw
        for name in SpendingForecast.__slots__:
            getattr(self, name)[queries] = getattr(spent, name)


class Learner:
    """Fits every model on some queries' rows.

    After `fit`, `out_of_fold_` is the forecast of the rows' own queries, each by models
    that saw no row of its fold.
    """

    def __init__(
        self, *, arms: Sequence[Arm], models: Sequence[Model], seed: int, recipe: Recipe = WHOLE
    ) -> None:
        self.arms = arms
        self.models = models
        self.seed = seed
        self.recipe = recipe

    def fit(self, encoded: Encoded, rows: Rows, fold: Indices, progress: Progress) -> Self:
        """Learns from the rows alone, whose queries are in folds (q,)."""
        queries = np.unique(rows.query)
        self.projection_ = Projection(seed=self.seed).fit(encoded, queries)
        contexts = self.projection_.transform(encoded)
        progress("accuracy")
        accuracy = AccuracyModel(
            arms=self.arms, models=self.models, seed=self.seed, recipe=self.recipe
        )
        self.accuracy_ = accuracy.fit(contexts, rows, fold)
        progress("cost and latency")
        self.out_of_fold_ = Forecast.blank(len(contexts), len(self.arms))
        for number in np.unique(fold[queries]):
            inside = queries[fold[queries] == number]
            spending = self._spending(contexts, rows.take(fold[rows.query] != number), encoded)
            spent = spending.predict(contexts.values[inside], encoded.counted_tokens[inside])
            self.out_of_fold_.fill(inside, self.accuracy_.out_of_fold_[inside], spent)
        self.spending_ = self._spending(contexts, rows, encoded)
        return self

    def predict(self, encoded: Encoded, queries: Mask) -> Forecast:
        """The forecast of these queries; NaN for all others."""
        forecast = Forecast.blank(len(queries), len(self.arms))
        if queries.any():
            contexts = self.projection_.transform(encoded).take(queries)
            spent = self.spending_.predict(contexts.values, encoded.counted_tokens[queries])
            forecast.fill(queries, self.accuracy_.predict(contexts), spent)
        return forecast

    def _spending(self, contexts: Contexts, rows: Rows, encoded: Encoded) -> SpendingModel:
        model = SpendingModel(arms=self.arms, models=self.models)
        return model.fit(contexts.values, rows, encoded.counted_tokens)
