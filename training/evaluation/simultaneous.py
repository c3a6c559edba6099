"""Intervals that hold for many slices at once, where one subject asks many times.

The largest of many correlated t-statistics is compared with that of normal ones with the
same correlations (Chernozhukov, Chetverikov and Kato 2013), which is less strict than
Bonferroni where slices overlap, and never stricter than it needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from router.types import Floats, Mask
from training.evaluation.slices import Facet
from training.log.dataset import Indices

_DRAWS = 8_000
_LEAST_ERROR = 1e-12


def normals(slices: int, rng: np.random.Generator) -> Floats:
    """Independent standard normals, a column per slice."""
    return rng.normal(size=(_DRAWS, slices))


@dataclass(frozen=True, kw_only=True)
class Linear:
    """Estimates for the k slices of one facet as sums over its n interactions.

    An estimate's error is the sum of `own` (n,) over the slice, plus `factor` (k,) times
    the sum of `shared` (n,) over all interactions.
    """

    estimate: Floats
    own: Floats
    shared: Floats | None = None
    factor: Floats | None = None


@dataclass(frozen=True, kw_only=True)
class Estimates:
    """Estimates for all s slices, with their standard errors and correlations (s, s)."""

    estimate: Floats
    error: Floats
    correlation: Floats

    def critical(self, told: Mask, units: Floats, level: float, drawn: Floats) -> Floats:
        """How many errors to either side an interval reaches, (s,), for slices of a mask.

        At the level, all of them hold at once; Student's t stands in for the normal where
        a slice has few units (s,); 0 for all other slices. `drawn` is what `normals` gives.
        """
        if not told.any():
            return np.zeros(len(told))
        values, vectors = np.linalg.eigh(self.correlation[np.ix_(told, told)])
        root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
        largest = np.abs(drawn[:, told] @ root).max(axis=1)
        normal = float(np.quantile(largest, 1.0 - level, method="higher"))
        away = stats.t.isf(stats.norm.sf(normal), np.maximum(units - 1.0, 1.0))
        return np.asarray(np.where(told, away, 0.0), np.float64)


def estimates(
    parts: Sequence[Linear], facets: Sequence[Facet], unit: Indices, least: Floats
) -> Estimates:
    """Brings the estimates of each facet together; `unit` (n,) counts from 0.

    Errors are at least `least` (s,).
    """
    units = int(unit.max(initial=-1)) + 1
    sums = np.hstack([_by_unit(*each, unit, units) for each in zip(parts, facets, strict=True)])
    covariance = sums.T @ sums * (units / max(units - 1.0, 1.0))
    error = np.sqrt(np.diag(covariance))
    scale = np.maximum(error, _LEAST_ERROR)
    correlation = covariance / np.outer(scale, scale)
    np.fill_diagonal(correlation, 1.0)
    return Estimates(
        estimate=np.concatenate([each.estimate for each in parts]),
        error=np.maximum(error, least),
        correlation=correlation,
    )


def _by_unit(part: Linear, facet: Facet, unit: Indices, units: int) -> Floats:
    """The errors' sums over units and slices, (u, k)."""
    cells = unit * len(facet) + facet.of
    sums = np.bincount(cells, part.own, units * len(facet)).reshape(units, len(facet))
    if part.shared is None or part.factor is None:
        return np.asarray(sums)
    return np.asarray(sums + np.outer(np.bincount(unit, part.shared, units), part.factor))
