"""Other lower bounds of means in [0, 1], which ours is held against; values are (n, c)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.stats import binom

from router.types import Floats, Mask

_STEPS = 12


def boundary(passes: Callable[[Floats], Mask], columns: int) -> Floats:
    """The floors (c,) up to which a test passes, which does not pass above one that fails."""
    low, high = np.zeros(columns), np.ones(columns)
    for _ in range(_STEPS):
        middle = (low + high) / 2.0
        passing = passes(middle)
        low, high = np.where(passing, middle, low), np.where(passing, high, middle)
    return low


def hoeffding_bentkus(values: Floats, level: float) -> Floats:
    """By the smaller of two p-values (Bates et al. 2021)."""
    count, risk = len(values), 1.0 - values.mean(axis=0)

    def passes(floor: Floats) -> Mask:
        most = 1.0 - floor
        below = np.clip(np.minimum(risk, most), 1e-12, 1.0 - 1e-12)
        divergence = below * np.log(below / most)
        divergence += (1.0 - below) * np.log((1.0 - below) / (1.0 - most))
        bentkus = np.e * binom.cdf(np.ceil(count * risk - 1e-9), count, most)
        return np.asarray(np.minimum(np.exp(-count * divergence), bentkus) <= level)

    return boundary(passes, values.shape[1])


def empirical_bernstein(values: Floats, level: float) -> Floats:
    """By Maurer and Pontil (2009)."""
    count, width = len(values), np.log(2.0 / level)
    spread = np.sqrt(2.0 * values.var(axis=0, ddof=1) * width / count)
    return np.asarray(values.mean(axis=0) - spread - 7.0 * width / (3.0 * (count - 1)))


def growth_bets(values: Floats, level: float) -> Floats:
    """By bets whose capital may be looked at any time (Waudby-Smith & Ramdas 2023)."""
    rows = np.arange(1, len(values) + 1)[:, None]
    mean = (0.5 + values.cumsum(axis=0)) / (rows + 1)
    variance = (0.25 + np.square(values - mean).cumsum(axis=0)) / (rows + 1)
    before = np.concatenate((np.full((1, values.shape[1]), 0.25), variance[:-1]))
    best = np.sqrt(2.0 * np.log(1.0 / level) / (before * len(values)))

    def passes(floor: Floats) -> Mask:
        bet = np.minimum(best, 0.75 / floor)
        grown = np.log1p(bet * (values - floor)).cumsum(axis=0).max(axis=0)
        return np.asarray(grown >= np.log(1.0 / level))

    return boundary(passes, values.shape[1])
