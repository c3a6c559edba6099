"""Other lower bounds of a mean in [0, 1], which ours is held against."""

from __future__ import annotations

import numpy as np
from scipy.stats import binom

from router.types import Floats

_FLOORS = np.linspace(0.0, 1.0, 1_000, endpoint=False)[1:]


def hoeffding_bentkus(values: Floats, level: float) -> float:
    """Of values (n,): the least floor with a p-value above the level (Bates et al. 2021)."""
    count, missed = len(values), 1.0 - values
    risk, most = float(missed.mean()), 1.0 - _FLOORS
    below = np.minimum(risk, most)
    divergence = below * np.log(np.maximum(below, 1e-12) / most)
    divergence += (1.0 - below) * np.log((1.0 - below) / (1.0 - most))
    bentkus = np.e * binom.cdf(np.ceil(count * risk), count, most)
    return _first(np.minimum(np.exp(-count * divergence), bentkus) > level)


def empirical_bernstein(values: Floats, level: float) -> float:
    """Of values (n,), by Maurer and Pontil (2009)."""
    count, width = len(values), np.log(2.0 / level)
    spread = np.sqrt(2.0 * values.var(ddof=1) * width / count)
    return float(values.mean() - spread - 7.0 * width / (3.0 * (count - 1)))


def growth_bets(values: Floats, level: float) -> float:
    """Of values (n,): bets whose capital may be looked at any time (Waudby-Smith & Ramdas 2023)."""
    count = len(values)
    rows = np.arange(1, count + 1)
    mean = (0.5 + values.cumsum()) / (rows + 1)
    variance = (0.25 + np.square(values - mean).cumsum()) / (rows + 1)
    before = np.concatenate(([0.25], variance[:-1]))
    bet = np.sqrt(2.0 * np.log(1.0 / level) / (before * count))[:, None]
    bet = np.minimum(bet, 0.75 / _FLOORS)
    grown = np.log1p(bet * (values[:, None] - _FLOORS)).cumsum(axis=0).max(axis=0)
    return _first(grown < np.log(1.0 / level))


def _first(kept: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> float:
    places = np.flatnonzero(kept)
    return float(_FLOORS[places[0]]) if len(places) else float(_FLOORS[-1])
