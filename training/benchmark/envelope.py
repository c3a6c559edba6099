"""The upper concave envelope: the best mean accuracy that mixing points buys at each cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from router.types import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """Corners of the envelope, cheapest first: `cost_usd` and `accuracy` (k,) both rise.

    A point between two corners is reached by mixing them: one for some queries, the other
    for the rest. The law: adding points never lowers it, and it is concave.
    """

    cost_usd: Floats
    accuracy: Floats

    @classmethod
    def of(cls, points: Floats) -> Self:
        """The envelope of (cost, accuracy) points (k, 2), k >= 1."""
        order = np.lexsort((-points[:, 1], points[:, 0]))
        costs, accuracies = points[order].T
        record = np.maximum.accumulate(accuracies)
        rises = np.concatenate(([True], record[1:] > record[:-1]))
        corners: list[tuple[float, float]] = []
        for corner in zip(costs[rises].tolist(), accuracies[rises].tolist(), strict=True):
            while len(corners) > 1 and _below(corners[-2], corners[-1], corner):
                corners.pop()
            corners.append(corner)
        found = np.array(corners)
        return cls(cost_usd=found[:, 0], accuracy=found[:, 1])

    @property
    def corners(self) -> Floats:
        """The corners as points (k, 2)."""
        return np.column_stack((self.cost_usd, self.accuracy))

    def at(self, budgets_usd: Floats) -> Floats:
        """The accuracy at each budget; below the cheapest corner that corner's own."""
        return np.interp(budgets_usd, self.cost_usd, self.accuracy)

    def cost_of(self, accuracy: Floats) -> Floats:
        """The least cost that buys each mean accuracy; infinite beyond reach."""
        cheapest = float(self.cost_usd[0])
        return np.interp(accuracy, self.accuracy, self.cost_usd, left=cheapest, right=np.inf)


def envelope(points: Floats, budgets_usd: Floats) -> Floats:
    """The upper concave envelope of (cost, accuracy) points (k, 2) at the budgets."""
    return Envelope.of(points).at(budgets_usd)


def _below(one: tuple[float, float], two: tuple[float, float], three: tuple[float, float]) -> bool:
    """Whether the middle point is on or below the line between the others."""
    rise = (two[1] - one[1]) * (three[0] - one[0])
    return rise <= (three[1] - one[1]) * (two[0] - one[0])
