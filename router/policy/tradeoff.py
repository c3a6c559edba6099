"""The trade-off between accuracy and cost, solved once on out-of-fold predictions.

A policy that maximises value x accuracy - cost traces a curve as the value of a correct
answer rises. An average accuracy floor is met by the smallest value whose point on the
curve lies at or above it (the multiplier of the Lagrangian of: minimise cost subject to
mean accuracy >= floor).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from router.types import Floats


@dataclass(frozen=True, kw_only=True)
class Tradeoff:
    """Points of the curve, cheapest first.

    `value_usd` (k,) rises; `accuracy` and `cost_usd` (k,) are means over the
    out-of-fold queries. `best_constant_accuracy` is that of the most accurate single arm.
    """

    value_usd: Floats
    accuracy: Floats
    cost_usd: Floats
    best_constant_accuracy: float

    def value_for(self, floor: float) -> tuple[float, bool]:
        """The value in dollars whose mean accuracy meets the floor, and whether any does."""
        values, best_so_far = self._reach
        index = bisect_left(best_so_far, floor)
        return values[min(index, len(values) - 1)], index < len(values)

    @cached_property
    def _reach(self) -> tuple[list[float], list[float]]:
        """The values, and the best mean accuracy up to each."""
        return self.value_usd.tolist(), np.maximum.accumulate(self.accuracy).tolist()

    @classmethod
    def from_mapping(cls, arrays: Mapping[str, Floats]) -> Tradeoff:
        """Reads the curve out of a bundle's arrays. Raises KeyError when one is missing."""
        return cls(
            value_usd=arrays["tradeoff_value_usd"],
            accuracy=arrays["tradeoff_accuracy"],
            cost_usd=arrays["tradeoff_cost_usd"],
            best_constant_accuracy=float(arrays["tradeoff_best_constant_accuracy"]),
        )

    def to_mapping(self) -> dict[str, Floats]:
        """The curve under the names of a bundle's arrays."""
        return {
            "tradeoff_value_usd": self.value_usd,
            "tradeoff_accuracy": self.accuracy,
            "tradeoff_cost_usd": self.cost_usd,
            "tradeoff_best_constant_accuracy": np.array(self.best_constant_accuracy),
        }


def trace(accuracy: Floats, cost_usd: Floats, points: int = 60) -> Tradeoff:
    """Traces the curve of (n, a) out-of-fold predictions.

    Values are log-spaced from 10^-3 to 10^3.5 times the mean cost of the most accurate
    arm. The curve's accuracy is the calibrated predictions' own mean, so that bandit
    logs, in which most arms were not tried, trace it as well.
    """
    best = int(accuracy.mean(axis=0).argmax())
    scale = float(cost_usd[:, best].mean())
    values = scale * np.logspace(-3, 3.5, points)
    rows = np.arange(len(accuracy))
    chosen = [(value * accuracy - cost_usd).argmax(axis=1) for value in values]
    return Tradeoff(
        value_usd=values,
        accuracy=np.array([accuracy[rows, arms].mean() for arms in chosen]),
        cost_usd=np.array([cost_usd[rows, arms].mean() for arms in chosen]),
        best_constant_accuracy=float(accuracy[:, best].mean()),
    )
