"""What an slo would have done on logged decisions: figures of choices that were made again.

The means of predictions say what the policy expects. Where outcomes are there, they say
it too, by self-normalised inverse propensity: with w = P(arm under the slo) / propensity,
mean = sum(w y) / sum(w), and its variance is sum(w^2 (y - mean)^2) / sum(w)^2 (Swaminathan
and Joachims, 2015; Owen, Monte Carlo theory, methods and examples, chapter 9).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from router.types import Floats, Predictions

FIGURES = ("accuracy", "cost_usd", "latency_p50_s", "latency_p95_s", "energy_wh")
"""What `expected` gives of each decision, in this order."""

_LEAST_OUTCOMES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Mean predictions over decisions; a latency is None where it was never measured."""

    accuracy: float
    cost_usd: float
    latency_p50_s: float | None
    latency_p95_s: float | None
    energy_wh: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean by self-normalised inverse propensity over so many outcomes.

    `effective_outcomes` of equal weight would tell as much. `support` is the mean weight:
    about 1 where the log has tried what the slo would take; below it, the estimate is one
    of a part of the queries.
    """

    mean: float
    standard_error: float
    outcomes: int
    effective_outcomes: float
    support: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed:
    """One logged decision and what would have been decided in its place.

    `expected` and `decided` (5,) are what the arms were predicted to bring, as FIGURES;
    `expected` is None where the decision would be refused. `weight` is the probability of
    the arm that was taken, under the slo over under the log; NaN where the log has none.
    `changed` is None where exploration drew the arm. The outcome's figures are NaN where
    nobody reported them.
    """

    expected: Floats | None
    decided: Floats
    feasible: bool
    changed: bool | None
    continuing: bool
    weight: float
    score: float
    cost_usd: float
    latency_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What an slo would have done on so many logged decisions.

    `continuing` of them may go on after their first arm; all figures are those of the first
    arm. The shares are None without decisions; `rejected_share` is a part of
    `infeasible_share`, and `changed_share` is one of the decisions that exploration did not
    draw. `predicted` is of the arms that would have been taken, `decided` of those that were.
    """

    decisions: int
    continuing: int = 0
    infeasible_share: float | None = None
    rejected_share: float | None = None
    changed_share: float | None = None
    predicted: Figures | None = None
    decided: Figures | None = None
    accuracy: Estimate | None = None
    cost_usd: Estimate | None = None
    latency_s: Estimate | None = None


def expected(predictions: Predictions, probability: Floats) -> Floats:
    """What arms that are taken with these probabilities (a,) are predicted to bring (5,)."""
    taken = np.flatnonzero(probability)
    columns = np.array([getattr(predictions, name)[taken] for name in FIGURES])
    return np.asarray(columns @ probability[taken])


def summarise(rehearsed: Sequence[Rehearsed]) -> Rehearsal:
    """The figures over some decisions."""
    if not rehearsed:
        return Rehearsal(decisions=0)
    kept = [each for each in rehearsed if each.expected is not None]
    changed = [each.changed for each in rehearsed if each.changed is not None]
    weight = np.array([each.weight for each in kept])
    return Rehearsal(
        decisions=len(rehearsed),
        continuing=sum(each.continuing for each in rehearsed),
        infeasible_share=_share([not each.feasible for each in rehearsed]),
        rejected_share=_share([each.expected is None for each in rehearsed]),
        changed_share=_share(changed),
        predicted=_figures([each.expected for each in kept if each.expected is not None]),
        decided=_figures([each.decided for each in rehearsed]),
        accuracy=estimate(weight, np.array([each.score for each in kept])),
        cost_usd=estimate(weight, np.array([each.cost_usd for each in kept])),
        latency_s=estimate(weight, np.array([each.latency_s for each in kept])),
    )


def estimate(weight: Floats, value: Floats) -> Estimate | None:
    """The mean of values (n,) by inverse propensity; None where the log can't tell.

    A NaN of either leaves a decision out.
    """
    known = ~np.isnan(weight) & ~np.isnan(value)
    w, y = weight[known], value[known]
    total = float(w.sum())
    if len(w) < _LEAST_OUTCOMES or total <= 0.0:
        return None
    mean = float(w @ y) / total
    return Estimate(
        mean=mean,
        standard_error=float(np.sqrt((w**2) @ (y - mean) ** 2)) / total,
        outcomes=len(w),
        effective_outcomes=total**2 / float(w @ w),
        support=total / len(w),
    )


def _share(flags: Sequence[bool]) -> float | None:
    return sum(flags) / len(flags) if flags else None


def _figures(rows: Sequence[Floats]) -> Figures | None:
    if not rows:
        return None
    table = np.array(rows)
    known = ~np.isnan(table)
    count = known.sum(axis=0)
    means = np.where(known, table, 0.0).sum(axis=0) / np.maximum(count, 1)
    accuracy, cost_usd, p50_s, p95_s, energy_wh = means.tolist()
    return Figures(
        accuracy=accuracy,
        cost_usd=cost_usd,
        latency_p50_s=p50_s if count[2] else None,
        latency_p95_s=p95_s if count[3] else None,
        energy_wh=energy_wh,
    )
