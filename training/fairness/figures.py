"""What the fairness audit measures: accuracy, spend and thinking, and how slices fall short."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from router.types import Floats
from training.evaluation.simultaneous import Linear
from training.evaluation.slices import Facet


class Measure(StrEnum):
    """What a slice gets."""

    ACCURACY = "accuracy"
    SPEND = "spend"
    THINKING = "thinking"


class Against(StrEnum):
    """What a slice is compared with: itself under the incumbent, or all slices together."""

    INCUMBENT = "incumbent"
    OVERALL = "overall"


Group = tuple[Measure, Against]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What n interactions get under one policy; every array is (n,).

    `accuracy` holds scores, or what doubly robust evaluation makes of them, which may lie
    beyond [0, 1]; `thinking` is inference compute, as the arm's multiple or output tokens.
    """

    accuracy: Floats
    spend_usd: Floats
    thinking: Floats

    def __len__(self) -> int:
        return len(self.accuracy)

    def of(self, measure: Measure) -> Floats:
        """The values of a measure."""
        match measure:
            case Measure.ACCURACY:
                return self.accuracy
            case Measure.SPEND:
                return self.spend_usd
            case Measure.THINKING:
                return self.thinking


def linear(
    value: Floats, other: Floats | None, facet: Facet, measure: Measure, against: Against | None
) -> Linear:
    """A measure's mean per slice, or its shortfall, with how each interaction moves it."""
    count = np.maximum(np.bincount(facet.of, minlength=len(facet)), 1.0)
    mean = np.bincount(facet.of, value, len(facet)) / count
    own = (value - mean[facet.of]) / count[facet.of]
    if against is None:
        return Linear(estimate=mean, own=own)
    difference = measure is Measure.ACCURACY
    if against is Against.OVERALL or other is None:
        return _against_all(value, mean, own, difference=difference)
    before = np.bincount(facet.of, other, len(facet)) / count
    if difference:
        return Linear(
            estimate=before - mean, own=(other - before[facet.of]) / count[facet.of] - own
        )
    scale = np.where(before > 0.0, before, np.inf)
    ratio = np.where(before > 0.0, mean / scale, 1.0)
    moved = value - ratio[facet.of] * other
    return Linear(
        estimate=1.0 - ratio,
        own=np.where(before > 0.0, -1.0 / (scale * count), 0.0)[facet.of] * moved,
    )


def _against_all(value: Floats, mean: Floats, own: Floats, *, difference: bool) -> Linear:
    """By how much each slice's mean lies below that of all, or as a share of it."""
    overall, n = float(value.mean()), len(value)
    shared = (value - overall) / n
    if difference:
        return Linear(estimate=overall - mean, own=-own, shared=shared, factor=np.ones(len(mean)))
    if overall <= 0.0:
        return Linear(estimate=np.zeros(len(mean)), own=np.zeros(n))
    ratio = mean / overall
    return Linear(estimate=1.0 - ratio, own=-own / overall, shared=shared / overall, factor=ratio)


def least_errors(value: Floats, facet: Facet) -> Floats:
    """The error of each slice's mean if its values spread as all slices' do, (k,).

    Some right answers in a row do not show that a slice has no wrong ones.
    """
    count = np.maximum(np.bincount(facet.of, minlength=len(facet)), 1.0)
    mean = np.bincount(facet.of, value, len(facet)) / count
    pooled = float(((value - mean[facet.of]) ** 2).mean())
    return np.asarray(np.sqrt(pooled / count), np.float64)
