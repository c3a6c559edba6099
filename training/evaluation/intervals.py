"""Intervals of a mean of scores, one score per interaction, which may come in clusters."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from scipy.stats import norm, t

from router.types import Floats
from training.benchmark.bootstrap import Interval, Resamples
from training.log.dataset import Indices

LEAST_FREEDOM = 2.0
RESAMPLES = 1_000
_MOST_CELLS = 2_000_000


@dataclass(frozen=True, kw_only=True)
class Scores:
    """n scores whose mean is the estimate, in c clusters; `cluster` (n,) counts from 0.

    Without clusters each interaction is its own.
    """

    values: Floats
    cluster: Indices | None = None

    @property
    def mean(self) -> float:
        """The estimate."""
        return float(self.values.mean())

    @cached_property
    def sums(self) -> Floats:
        """Per cluster, by how much its scores exceed the mean in sum, (c,)."""
        centred = self.values - self.mean
        if self.cluster is None:
            return centred
        return np.asarray(np.bincount(self.cluster, weights=centred), np.float64)

    @cached_property
    def sizes(self) -> Floats:
        """Interactions per cluster, (c,)."""
        if self.cluster is None:
            return np.ones(len(self.values))
        return np.asarray(np.bincount(self.cluster), np.float64)

    @property
    def standard_error(self) -> float:
        """The deviation of the mean over samples of c clusters; infinite where c is 1.

        sqrt(c / (c - 1) sum_c e_c^2) / n, with e_c the sums: the sandwich of a ratio of
        sums. Source: Liang & Zeger 1986.
        """
        count = len(self.sums)
        if count < 2:
            return float("inf")
        squares = float(np.square(self.sums).sum())
        return float(np.sqrt(count / (count - 1) * squares) / len(self.values))

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the standard error, from the scores' kurtosis.

        2 c / (kurtosis - 1), which makes the variance's own variance that of a chi-square:
        a few large weights decide it, and are worth as few. Source: Satterthwaite 1946.
        """
        squares = np.square(self.sums)
        second = float(squares.mean())
        if second <= 0.0:
            return float("inf")
        kurtosis = float(np.square(squares).mean()) / second**2
        most = max(len(self.sums) - 1.0, LEAST_FREEDOM)
        return float(np.clip(2.0 * len(self.sums) / max(kurtosis - 1.0, 1e-9), LEAST_FREEDOM, most))


def t_interval(scores: Scores, confidence: float) -> Interval:
    """The mean -+ t x standard error; infinite for a single cluster."""
    error = scores.standard_error
    half = float(t.ppf(0.5 + confidence / 2.0, scores.freedom)) * error if error else 0.0
    return Interval(estimate=scores.mean, low=scores.mean - half, high=scores.mean + half)


def bootstrap_interval(scores: Scores, confidence: float, seed: int) -> Interval:
    """The percentile interval over resampled clusters, expanded for heavy tails.

    The tails are Phi(-t) instead of Phi(-z), with the t of `t_interval`. Source: Hesterberg
    2015, section 5.3; BCa (Efron 1987) and studentised intervals covered less on real logs,
    where a few large weights decide the skew that they correct for.
    """
    if len(scores.sums) < 2:
        return Interval(estimate=scores.mean, low=-np.inf, high=np.inf)
    tail = float(norm.cdf(-t.ppf(0.5 + confidence / 2.0, scores.freedom)))
    low, high = np.quantile(_resampled(scores, seed), (tail, 1.0 - tail))
    return Interval(estimate=scores.mean, low=float(low), high=float(high))


def _resampled(scores: Scores, seed: int) -> Floats:
    """Means over resampled clusters, (RESAMPLES,), a few resamples at a time."""
    rng, count = np.random.default_rng(seed), len(scores.sums)
    step = max(1, _MOST_CELLS // count)
    ends = [*range(0, RESAMPLES, step), RESAMPLES]
    both = np.stack((scores.sums, scores.sizes))
    means = [Resamples(count, end - start, rng).means(both)[1:] for start, end in pairwise(ends)]
    totals = np.concatenate(means)
    return np.asarray(scores.mean + totals[:, 0] / totals[:, 1])


def bernstein_margin(values: Floats, width: float, level: float) -> float:
    """What a mean of n independent values in a range of `width` may be above or below theirs.

    sqrt(2 var ln(2 / level) / n) + 7 width ln(2 / level) / (3 (n - 1)), exceeded on one
    given side with a chance of `level` at most, at any n. Source: Maurer & Pontil 2009,
    "Empirical Bernstein bounds and sample variance penalization", theorem 4.
    """
    n = len(values)
    if n < 2:
        return float("inf")
    tail = float(np.log(2.0 / level))
    spread = float(np.sqrt(2.0 * values.var(ddof=1) * tail / n))
    return spread + 7.0 * width * tail / (3.0 * (n - 1))
