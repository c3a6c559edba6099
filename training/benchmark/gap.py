"""Gap closed: how much of the way from the best mixture of constants to the oracle."""

from __future__ import annotations

import numpy as np

from router.types import Floats
from training.benchmark.envelope import envelope


def gap_closed(way: Floats, constants: Floats, oracle: Floats, budgets_usd: Floats) -> float | None:
    """The share of the gap that a way closes: 0 is the best mixture, 1 the oracle.

    Each argument is (cost, accuracy) points (k, 2) measured on the test queries. With
    A(points) the mean over the budgets of the upper concave envelope of the points and the
    constants together, it is (A(way) - A(constants)) / (A(oracle) - A(constants)). None
    where there are no budgets, or where the oracle is no better than the mixture. Source:
    Leadline's design, section 5.
    """
    if not len(budgets_usd):
        return None
    base = mean_accuracy(constants, constants, budgets_usd)
    most = mean_accuracy(oracle, constants, budgets_usd)
    return share(mean_accuracy(way, constants, budgets_usd), base, most)


def mean_accuracy(points: Floats, constants: Floats, budgets_usd: Floats) -> float:
    """A(points): the envelope with the constants added, averaged over the budgets."""
    return float(envelope(np.vstack((points, constants)), budgets_usd).mean())


def share(ours: float, base: float, most: float) -> float | None:
    """(ours - base) / (most - base); None where the oracle adds nothing."""
    return (ours - base) / (most - base) if most > base else None
