"""Directed exploration around the decisions of many queries at many values, as serving does it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from router.policy.exploration import Around
from router.slo import Slo
from router.types import Floats, Mask
from training.log.dataset import Indices


@dataclass(frozen=True, kw_only=True)
class Directed:
    """What q queries' picks `arms` (q, k) at k values explore among; the rest are (q, a).

    `values_usd` (q, k) is what a correct answer is worth. The queries stand for the slo's
    own: their picks cost on average what its decisions do.
    """

    slo: Slo
    arms: Indices
    values_usd: Floats
    feasible: Mask
    accuracy: Floats
    doubt: Floats
    cost_usd: Floats
    weighed_usd: Floats

    def mean(self, table: Floats) -> Floats:
        """What the decisions get of a table (q, a) on average, (q, k)."""
        return np.stack([_mean(*each, table) for each in self._each()], axis=1)

    def chance(self, query: Indices, arm: Indices) -> Floats:
        """The chance that the decision for each of n queries picks the arm, (n, k)."""
        return np.stack(
            [
                np.where(greedy[query] == arm, 1.0 - rate[query], rate[query] * odds[query, arm])
                for greedy, rate, odds in self._each()
            ],
            axis=1,
        )

    def _each(self) -> Iterator[tuple[Indices, Floats, Floats]]:
        """The picks (q,) at each value, how often they give way (q,), and the odds then (q, a)."""
        for greedy, value_usd in zip(self.arms.T, self.values_usd.T, strict=True):
            around = Around(
                greedy=greedy,
                feasible=self.feasible,
                accuracy=self.accuracy,
                doubt=self.doubt,
                cost_usd=self.cost_usd,
                weighed_usd=self.weighed_usd,
            )
            odds = around.odds(value_usd)
            paid = np.take_along_axis(self.cost_usd, greedy[:, None], axis=1)
            yield greedy, around.rate(odds, self.slo, float(np.nanmean(paid))), odds


def _mean(greedy: Indices, rate: Floats, odds: Floats, table: Floats) -> Floats:
    picked = np.take_along_axis(table, greedy[:, None], axis=1)[:, 0]
    explored = np.where(odds > 0.0, odds * table, 0.0).sum(axis=1)
    return np.asarray(np.where(rate > 0.0, (1.0 - rate) * picked + rate * explored, picked))
