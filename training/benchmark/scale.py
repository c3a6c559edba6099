"""The scale that every way is measured on: fixed by the constant arms as training saw them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from router.types import Floats
from training.log.dataset import Dataset

POINTS = 60
LEAST_QUERIES = 100
"""With fewer queries that have every arm, the means are those of all rows, weighted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Constant arms as seen in training: mean `accuracy` and `cost_usd` (a,) of each.

    An arm that training never saw scored, or never saw priced, is NaN in both.
    """

    accuracy: Floats
    cost_usd: Floats

    @classmethod
    def of(cls, train: Dataset) -> Self:
        """The means over the queries that have every arm, or over all rows where few do."""
        score, cost = train.table("score"), train.table("cost_usd")
        full = ~np.isnan(score).any(axis=1) & ~np.isnan(cost).any(axis=1)
        if full.sum() >= LEAST_QUERIES:
            return cls(accuracy=score[full].mean(axis=0), cost_usd=cost[full].mean(axis=0))
        accuracy, price = _weighted(train, "score"), _weighted(train, "cost_usd")
        known = ~np.isnan(accuracy) & ~np.isnan(price)
        return cls(
            accuracy=np.where(known, accuracy, np.nan), cost_usd=np.where(known, price, np.nan)
        )

    @classmethod
    def mean(cls, scales: list[Scale]) -> Scale:
        """The mean of the scales of several folds."""
        return cls(
            accuracy=np.mean([each.accuracy for each in scales], axis=0),
            cost_usd=np.mean([each.cost_usd for each in scales], axis=0),
        )

    @property
    def best_arm(self) -> int:
        """The most accurate constant; of equals the cheapest."""
        return int(np.lexsort((self.cost_usd, -self.accuracy))[0])

    @property
    def cheapest_arm(self) -> int:
        """The cheapest constant; of equals the most accurate."""
        return int(np.lexsort((-self.accuracy, self.cost_usd))[0])

    @property
    def high_usd(self) -> float:
        """The mean cost of the most accurate constant."""
        return float(self.cost_usd[self.best_arm])

    @property
    def low_usd(self) -> float:
        """The mean cost of the cheapest constant; of those with a price, where some are free."""
        priced = self.cost_usd[self.cost_usd > 0]
        return float(priced.min()) if len(priced) else 0.0

    @property
    def values_usd(self) -> Floats:
        """The accuracy values that all ways are walked at."""
        return values(self.high_usd)

    @property
    def budgets_usd(self) -> Floats:
        """The budgets, cheapest to best constant; none where nothing lies between them."""
        return budgets(self.low_usd, self.high_usd)


def values(high_usd: float) -> Floats:
    """60 log-spaced values of a correct answer: 10^-3 to 10^3.5 times the best constant's cost."""
    return (high_usd or 1.0) * np.logspace(-3, 3.5, POINTS)


def budgets(low_usd: float, high_usd: float) -> Floats:
    """60 log-spaced budgets; none unless 0 < low < high."""
    return np.geomspace(low_usd, high_usd, POINTS) if 0.0 < low_usd < high_usd else np.empty(0)


def _weighted(train: Dataset, name: str) -> Floats:
    """The weighted mean of a figure per arm (a,), NaN where never seen."""
    rows, count = train.rows, len(train.arms)
    values = getattr(rows, name)
    known = ~np.isnan(values)
    weight = np.bincount(rows.arm[known], rows.weight[known], count)
    total = np.bincount(rows.arm[known], rows.weight[known] * values[known], count)
    means = np.divide(total, weight, out=np.full(count, np.nan), where=weight > 0)
    return np.asarray(means)
