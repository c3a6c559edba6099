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

SINGLE, CONTINUED = "tradeoff", "continued_tradeoff"
"""Names of the curves in a bundle: of one attempt each, and of callers who continue."""


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
    def from_mapping(cls, arrays: Mapping[str, Floats], name: str = SINGLE) -> Tradeoff:
        """Reads the curve of a name out of a bundle's arrays. Raises KeyError if one lacks."""
        return cls(
            value_usd=arrays[f"{name}_value_usd"],
            accuracy=arrays[f"{name}_accuracy"],
            cost_usd=arrays[f"{name}_cost_usd"],
            best_constant_accuracy=float(arrays[f"{name}_best_constant_accuracy"]),
        )

    def to_mapping(self, name: str = SINGLE) -> dict[str, Floats]:
        """The curve under the names of a bundle's arrays."""
        return {
            f"{name}_value_usd": self.value_usd,
            f"{name}_accuracy": self.accuracy,
            f"{name}_cost_usd": self.cost_usd,
            f"{name}_best_constant_accuracy": np.array(self.best_constant_accuracy),
        }


def values_usd(scale_usd: float, points: int = 60) -> Floats:
    """The values that a curve is traced at: log-spaced from 10^-3 to 10^3.5 times the scale.

    The scale is the mean cost of the most accurate arm.
    """
    return scale_usd * np.logspace(-3, 3.5, points)


def trace(accuracy: Floats, cost_usd: Floats) -> Tradeoff:
    """Traces the curve of single attempts on (n, a) predictions, as if they were the truth."""
    best = int(accuracy.mean(axis=0).argmax())
    values = values_usd(float(cost_usd[:, best].mean()))
    rows = np.arange(len(accuracy))
    chosen = [(value * accuracy - cost_usd).argmax(axis=1) for value in values]
    return Tradeoff(
        value_usd=values,
        accuracy=np.array([accuracy[rows, arms].mean() for arms in chosen]),
        cost_usd=np.array([cost_usd[rows, arms].mean() for arms in chosen]),
        best_constant_accuracy=float(accuracy[:, best].mean()),
    )
