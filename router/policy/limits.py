"""The numeric bounds of one decision, and how far each arm is beyond them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from router.conditions import Limit
from router.slo import Slo
from router.types import Bounds, Floats, Predictions

_UNITS = {Limit.COST: " USD", Limit.LATENCY: " s", Limit.ACCURACY: "", Limit.ENERGY: " Wh"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds: the tighter of the slo's and the request's."""

    cost_usd: float | None
    latency_s: float | None
    latency_quantile: float
    accuracy: float | None
    energy_wh: float | None

    @classmethod
    def of(cls, slo: Slo, bounds: Bounds, *, per_query: bool) -> Limits:
        """The bounds; the accuracy floor is among them when it holds for each query."""
        return cls(
            cost_usd=_tighter(slo.max_cost_usd, bounds.max_cost_usd),
            latency_s=_tighter(slo.max_latency_s, bounds.max_latency_s),
            latency_quantile=slo.latency_quantile,
            accuracy=slo.min_accuracy if per_query else None,
            energy_wh=slo.max_energy_wh,
        )

    @property
    def named(self) -> list[tuple[Limit, float]]:
        """The bounds that are set."""
        bounds = (
            (Limit.COST, self.cost_usd),
            (Limit.LATENCY, self.latency_s),
            (Limit.ACCURACY, self.accuracy),
            (Limit.ENERGY, self.energy_wh),
        )
        return [(limit, bound) for limit, bound in bounds if bound is not None]

    def parts(self, predictions: Predictions) -> Iterator[tuple[Limit, float, Floats]]:
        """Each bound that is set, and how far each arm is beyond it, relative, shape (a,).

        An arm whose latency was never measured does not meet a latency bound.
        """
        for limit, bound in self.named:
            yield limit, bound, self._excess(limit, bound, predictions)

    def excess(self, predictions: Predictions) -> Floats:
        """How far each arm is beyond the bounds, relative and summed; 0 meets all. Shape (a,)."""
        none = np.zeros(len(predictions.cost_usd))
        return sum((excess for _, _, excess in self.parts(predictions)), none)

    def _excess(self, limit: Limit, bound: float, predictions: Predictions) -> Floats:
        if limit is Limit.ACCURACY:
            return (
                np.maximum(1.0 - predictions.accuracy / bound, 0.0)
                if bound > 0
                else _none(predictions)
            )
        if limit is Limit.LATENCY:
            return _over(predictions.latency_s(self.latency_quantile), bound)
        return _over(predictions.cost_usd if limit is Limit.COST else predictions.energy_wh, bound)

    def __str__(self) -> str:
        return ", ".join(f"{limit} {bound:g}{_UNITS[limit]}" for limit, bound in self.named)


def _none(predictions: Predictions) -> Floats:
    return np.zeros(len(predictions.accuracy))


def _tighter(one: float | None, other: float | None) -> float | None:
    both = [bound for bound in (one, other) if bound is not None]
    return min(both, default=None)


def _over(values: Floats, bound: float) -> Floats:
    return np.where(np.isnan(values), 1e9, np.maximum(values / bound - 1.0, 0.0))
