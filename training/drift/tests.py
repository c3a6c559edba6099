"""Tests of whether a figure changed between two windows, where one subject asks many times.

Interactions of one unit (a subject, or an hour of one backend) are not independent, so
variances are those of sums over units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import stats

from router.types import Floats, Mask
from training.log.dataset import Indices

LEAST_UNITS = 30.0
"""Fewer independent units in a window tell nothing of its variance."""

_EXACT = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A mean before and now, the change with its standard error, and what it rests on.

    `p_value` is two-sided, against no change at all; `dof` are Student's.
    """

    before: float
    now: float
    change: float
    error: float
    dof: float
    p_value: float
    n_before: int
    n_now: int

    @classmethod
    def by_z(cls, before: float, now: float, error: float, *, n_before: int, n_now: int) -> Self:
        """A change of figures that are about normal, with its known error."""
        return cls(
            before=before,
            now=now,
            change=now - before,
            error=error,
            dof=np.inf,
            p_value=float(2.0 * stats.norm.sf(abs(now - before) / max(error, _EXACT))),
            n_before=n_before,
            n_now=n_now,
        )

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """A two-sided interval for the change."""
        away = float(stats.t.ppf(0.5 + confidence / 2.0, self.dof)) * self.error
        return self.change - away, self.change + away


@dataclass(frozen=True, kw_only=True)
class Values:
    """n values with their weights, arms and units, all (n,); those of `now` are the current."""

    value: Floats
    weight: Floats
    arm: Indices
    unit: Indices
    now: Mask

    def known(self) -> Values:
        """Those that are not NaN."""
        return self.take(np.isfinite(self.value))

    def take(self, which: Mask) -> Values:
        """Those of a mask (n,)."""
        return Values(
            value=self.value[which],
            weight=self.weight[which],
            arm=self.arm[which],
            unit=self.unit[which],
            now=self.now[which],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    mean: float
    variance: float
    units: float
    n: int


def mean_change(values: Values) -> Change | None:
    """How the mean over arms changed, each arm compared with itself; None with too few units.

    Arms weigh by the harmonic mean of both windows' effective counts, so that a policy
    which now picks other arms changes nothing. Welch's t with sums over units.
    """
    before, now = values.take(~values.now), values.take(values.now)
    arms = int(values.arm.max(initial=-1)) + 1
    first, second = (_effective(side, arms) for side in (before, now))
    both = first + second
    share = np.divide(first * second, both, out=np.zeros(arms), where=both > 0)
    if not share.sum() > 0.0:
        return None
    share = share / share.sum()
    pooled = _pooled(before, now, arms)
    old, new = _side(before, share, pooled), _side(now, share, pooled)
    if min(old.units, new.units) < LEAST_UNITS:
        return None
    return _welch(old, new)


def _effective(values: Values, arms: int) -> Floats:
    """The effective count of values of each arm, (a,): (sum of w)^2 / sum of w^2."""
    total = np.bincount(values.arm, values.weight, arms).astype(np.float64)
    squares = np.bincount(values.arm, values.weight**2, arms).astype(np.float64)
    return np.asarray(np.divide(total**2, squares, out=np.zeros(arms), where=squares > 0))


def _arm_means(values: Values, arms: int) -> Floats:
    total = np.bincount(values.arm, values.weight, arms)
    sums = np.bincount(values.arm, values.weight * values.value, arms)
    return np.asarray(np.divide(sums, total, out=np.zeros(arms), where=total > 0))


def _pooled(before: Values, now: Values, arms: int) -> Floats:
    """The variance of one value of each arm within both windows, (a,)."""
    spread, total = np.zeros(arms), np.zeros(arms)
    for side in (before, now):
        away = side.value - _arm_means(side, arms)[side.arm]
        spread += np.bincount(side.arm, side.weight * away**2, arms)
        total += np.bincount(side.arm, side.weight, arms)
    return np.asarray(np.divide(spread, total, out=np.zeros(arms), where=total > 0))


def _side(values: Values, share: Floats, pooled: Floats) -> _Side:
    """The mean over arms of their shares (a,), and its variance by sums over units.

    It is at least that of independent values of the pooled variance: a few that happen to
    be alike, as thirty right answers, do not show that there is none.
    """
    values = values.take(share[values.arm] > 0.0)
    arms, means = len(share), _arm_means(values, len(share))
    total = np.bincount(values.arm, values.weight, arms)
    each = np.divide(share, total, out=np.zeros(arms), where=total > 0)[values.arm] * values.weight
    unit = np.unique(values.unit, return_inverse=True)[1]
    away = np.bincount(unit, each * (values.value - means[values.arm]))
    load = np.bincount(unit, each)
    units = float(1.0 / (load**2).sum()) if len(load) else 0.0
    robust = float((away**2).sum()) * units / (units - 1.0) if units > 1.0 else np.inf
    return _Side(
        mean=float(share @ means),
        variance=max(robust, float((each**2 * pooled[values.arm]).sum())),
        units=units,
        n=len(values.value),
    )


def _welch(old: _Side, new: _Side) -> Change:
    variance = old.variance + new.variance
    change, error = new.mean - old.mean, float(np.sqrt(variance))
    dof = min(old.units, new.units) - 1.0
    if error > _EXACT:
        parts = old.variance**2 / (old.units - 1.0) + new.variance**2 / (new.units - 1.0)
        dof = variance**2 / parts
        p_value = float(2.0 * stats.t.sf(abs(change) / error, dof))
    else:
        p_value = float(abs(change) <= _EXACT)
    return Change(
        before=old.mean,
        now=new.mean,
        change=change,
        error=error,
        dof=dof,
        p_value=p_value,
        n_before=old.n,
        n_now=new.n,
    )


@dataclass(frozen=True, kw_only=True)
class Counted:
    """Queries by cluster: `of` (q,) among `clusters`, each query's unit, and whether it is new."""

    of: Indices
    clusters: int
    unit: Indices
    now: Mask

    def shares(self) -> tuple[Floats, Floats]:
        """The share of each cluster before and now, (k,) each."""
        before, now = (
            np.bincount(self.of[side], minlength=self.clusters) / max(int(side.sum()), 1)
            for side in (~self.now, self.now)
        )
        return before, now


def least_units(unit: Indices, now: Mask) -> float:
    """The lesser window's effective number of units (Kish), 0 where a window is empty."""
    if now.all() or not now.any():
        return 0.0
    sides = (np.unique(unit[side], return_counts=True)[1] for side in (now, ~now))
    return min(float(loads.sum() ** 2 / (loads**2).sum()) for loads in sides)


def mix_changes(counted: Counted, *, least_expected: float = 10.0) -> tuple[float, Floats]:
    """p-values of the G-test of all clusters together, and of each against the rest, (k,).

    G is divided by the design effect of units that ask many times (Rao and Scott 1981).
    Clusters that expect fewer than `least_expected` queries in a window count as one in
    the test of all, and their own p-value is NaN.
    """
    observed = np.stack(
        [
            np.bincount(counted.of[side], minlength=counted.clusters)
            for side in (~counted.now, counted.now)
        ]
    ).astype(np.float64)
    sizes = observed.sum(axis=1)
    pooled = observed.sum(axis=0) / sizes.sum()
    effect = _design_effect(counted, pooled, sizes)
    enough = pooled * sizes.min() >= least_expected
    each = np.full(counted.clusters, np.nan)
    for place in np.flatnonzero(enough & (pooled < 1.0)).tolist():
        own = observed[:, place]
        each[place] = stats.chi2.sf(_g(np.column_stack((own, sizes - own))) / effect[place], 1)
    table = np.column_stack((observed[:, enough], observed[:, ~enough].sum(axis=1)))
    table = table[:, table.sum(axis=0) > 0.0]
    if table.shape[1] < 2:
        return 1.0, each
    mean_effect = float(np.average(effect, weights=np.maximum(1.0 - pooled, 1e-12)))
    return float(stats.chi2.sf(_g(table) / mean_effect, table.shape[1] - 1)), each


def _g(table: Floats) -> float:
    """The G statistic of a table (2, c)."""
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    ratio = np.divide(table, expected, out=np.ones_like(table), where=table > 0)
    return float(2.0 * (table * np.log(ratio)).sum())


def _design_effect(counted: Counted, pooled: Floats, sizes: Floats) -> Floats:
    """Variance of each cluster's share by units over that of independent queries, at least 1."""
    robust = np.zeros(counted.clusters)
    for side, size in zip((~counted.now, counted.now), sizes, strict=True):
        unit = np.unique(counted.unit[side], return_inverse=True)[1]
        load = np.bincount(unit).astype(np.float64)
        cell, squares = np.unique(unit * counted.clusters + counted.of[side], return_counts=True)
        own, mine = cell % counted.clusters, load[cell // counted.clusters]
        cross = np.bincount(own, squares * mine, counted.clusters)
        square = np.bincount(own, squares.astype(np.float64) ** 2, counted.clusters)
        robust += (square - 2.0 * pooled * cross + pooled**2 * (load**2).sum()) / size**2
    plain = pooled * (1.0 - pooled) * (1.0 / sizes).sum()
    effect = np.divide(robust, plain, out=np.ones_like(plain), where=plain > 0)
    return np.asarray(np.maximum(effect, 1.0))


def holm(p_values: Floats) -> Floats:
    """p-values (m,) adjusted for all of them together (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    scaled = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted
