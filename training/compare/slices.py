"""The slices in which two policies differ most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from router.types import Floats, Mask
from training.compare.log import Interactions
from training.compare.measured import Facts
from training.compare.picks import Picks
from training.evaluation.simultaneous import estimates, normals
from training.evaluation.slices import Facet
from training.fairness.figures import Against, Measure, least_errors, linear
from training.log.dataset import Indices
from training.report.measured import Told

LEAST_WORTH = 50.0
"""Interactions of equal weight that a slice must be worth before a difference is told."""

MOST_SLICES = 40
_LEVEL = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceDifference:
    """How B differs from A in one slice: picks, predicted and measured accuracy of B less A.

    The measured one's 95 % interval holds for all slices at once.
    """

    facet: str
    name: str
    n: int
    differing: float
    predicted: float
    measured: Told


def slice_differences(
    log: Interactions, both: tuple[Picks, Picks], facts: Facts
) -> tuple[SliceDifference, ...]:
    """Every slice, those that are shown to differ most first, then those that are said to."""
    one, other = both
    differs = one.arm != other.arm
    gain = other.predicted("accuracy") - one.predicted("accuracy")
    measured = iter(_measured(facts))
    found = [
        SliceDifference(
            facet=facet.name,
            name=name,
            n=int(inside.sum()),
            differing=float(differs[inside].mean()) if inside.any() else 0.0,
            predicted=float(np.nanmean(gain[inside])) if inside.any() else 0.0,
            measured=told,
        )
        for facet in log.facets
        for place, name in enumerate(facet.names)
        for inside, told in ((facet.of == place, next(measured)),)
    ]
    some = [each for each in found if each.n]
    return tuple(sorted(some, key=_weight)[:MOST_SLICES])


def _weight(each: SliceDifference) -> tuple[float, float]:
    """By how much a slice surely differs, then by how many picks do; the most first."""
    told = each.measured
    surely = 0.0 if told.reason else max(told.low, -told.high, 0.0)
    return -surely, -each.differing * each.n


def _measured(facts: Facts) -> Sequence[Told]:
    """By how much each slice gains in accuracy, over all facets in their order."""
    names = [name for facet in facts.log.facets for name in facet.names]
    whole = facts.told("accuracy", "score")[2]
    if whole.reason or not names:
        return [Told.untold("cannot tell" if whole.reason else "")] * len(names)
    one, other = facts.values("accuracy", "score")
    known = ~np.isnan(one + other)
    facets = [
        Facet(name=each.name, names=each.names, of=each.of[known]) for each in facts.log.facets
    ]
    one, other = one[known], other[known]
    unit = np.asarray(np.unique(facts.log.cluster[known], return_inverse=True)[1], np.intp)
    found = estimates(
        [linear(other, one, each, Measure.ACCURACY, Against.INCUMBENT) for each in facets],
        facets,
        unit,
        np.concatenate([least_errors(other - one, each) for each in facets]),
    )
    worth = np.concatenate([_worth(facts, each, known, unit) for each in facets])
    told = worth >= LEAST_WORTH
    drawn = normals(len(told), np.random.default_rng(0))
    away = found.error * found.critical(told, worth, _LEVEL, drawn)
    return [_told(*each) for each in zip(-found.estimate, away, told, worth, strict=True)]


def _told(gain: float, away: float, told: bool, worth: float) -> Told:  # noqa: FBT001
    if not told:
        return Told.untold(f"cannot tell: worth {worth:.0f} interactions")
    return Told(estimate=float(gain), low=float(gain - away), high=float(gain + away))


def _worth(facts: Facts, facet: Facet, known: Mask, unit: Indices) -> Floats:
    """How many interactions of equal weight a slice is worth, the fewer of both, (k,)."""
    behaviour = facts.log.rewards.behaviour
    if behaviour is None:
        return _kish(facet, np.ones(len(unit)))
    logged = facts.logged(behaviour, "accuracy", "score")
    both = (facts.one.target, facts.other.target)
    return np.minimum(*(_kish(facet, logged.weighed(each).weight[known]) for each in both))


def _kish(facet: Facet, weight: Floats) -> Floats:
    sums, squares = (np.bincount(facet.of, each, len(facet)) for each in (weight, weight**2))
    return np.divide(sums**2, squares, out=np.zeros(len(facet)), where=squares > 0.0)
