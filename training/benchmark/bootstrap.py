"""The paired bootstrap: queries are drawn anew, the same ones for every way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from router.types import Floats

_TAIL = 0.025


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate with its central 95 % percentile interval."""

    estimate: float
    low: float
    high: float


class Resamples:
    """Queries drawn with replacement, as weights: `weights` (1 + n, q) have rows of sum 1.

    Row 0 is the sample itself, so that every statistic comes with its estimate in place
    0. A mean over the queries of a resample is a product with its row. Source: Efron and
    Tibshirani 1993, sections 10 (paired) and 13 (percentile).
    """

    def __init__(self, queries: int, count: int, rng: np.random.Generator) -> None:
        drawn = rng.multinomial(queries, np.full(queries, 1.0 / queries), size=count)
        self.weights: Floats = np.vstack((np.ones(queries), drawn.astype(np.float64))) / queries

    @classmethod
    def alone(cls, queries: int) -> Self:
        """The sample itself and no other."""
        return cls(queries, 0, np.random.default_rng(0))

    def __len__(self) -> int:
        return len(self.weights)

    def means(self, values: Floats) -> Floats:
        """The mean of values (k, q) in each resample, shape (1 + n, k)."""
        return np.asarray(self.weights @ values.T)


def interval(statistic: Floats) -> Interval | None:
    """The interval of a statistic (1 + n,) over resamples; None where it is not defined.

    Infinite values, as a cost that buys nothing, count as larger than all others.
    """
    estimate = float(statistic[0])
    if np.isnan(statistic).any():
        return None
    low = np.quantile(statistic[1:], _TAIL, method="lower") if len(statistic) > 1 else estimate
    high = (
        np.quantile(statistic[1:], 1.0 - _TAIL, method="higher") if len(statistic) > 1 else estimate
    )
    return Interval(estimate=estimate, low=float(low), high=float(high))
