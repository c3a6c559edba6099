"""Overlap: how much a log of one policy can show of another.

A log holds the propensity of the arm that was picked and of no other, so support is told
from four sides: what the weights are worth, what they average to (1, where every arm that
the target may pick could be picked), which arms never were, and what a propensity near 1
leaves to all other arms.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from router.types import Floats, Mask
from training.log.dataset import Indices

LEAST_EFFECTIVE_N = 30.0
"""Interactions that a log must be worth before an interval from it is believed."""

MOST_UNTRIED = 0.05
"""The share of a target's picks that a log may never have tried where they would be made."""

MOST_IMPLIED_WEIGHT = 100.0
"""Picks that would count for more than this, were they tried, are as good as never tried."""

MOST_Z = 3.5
"""Standard errors by which the mean weight may miss 1 before the log is held to miss arms."""

LEAST_GAP = 0.05
"""The mean weight may miss 1 by so much whatever its standard error."""

_EXPECTED_PICKS = 4.0
"""Picks of an arm by a uniform logger, none of which shows that this one hardly tries it."""

_SHORT_Z = 3.0
_NOTHING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """What n interactions are worth for a target policy, and whether that is enough.

    `known_n` of them have an outcome. `effective_n` is how many of equal weight would be
    worth as much (Kish 1965), and `mean_weight` should be 1, by `mean_weight_error`.
    `untried` is the share of the target's picks that the log never tried where they would
    be made, `clipped` the share of interactions with a weight above the clip, or 100.
    Per arm, `arm_n` is how often it was picked and `arm_share` how often the target would.
    `reason` says in words why the log cannot tell; it is empty where it can.
    """

    n: int
    known_n: int
    effective_n: float
    largest_weight: float
    largest_share: float
    mean_weight: float
    mean_weight_error: float
    untried: float
    clipped: float
    arm_n: tuple[int, ...]
    arm_share: tuple[float, ...]
    reason: str = ""

    @property
    def can_tell(self) -> bool:
        """Whether the log shows enough of the target to judge it."""
        return not self.reason


@dataclass(frozen=True, kw_only=True)
class Weighed:
    """Interactions as weights: what overlap is told from, whatever the rewards.

    `target` (n, a) are the target's probabilities, `arm` and `propensity` (n,) what was
    picked and how probable that was. `weight` (n,) is target / propensity, times the
    response weight where the outcome is known, and 0 where it is not. `region` (n,) are
    parts of the log, counted from 0, in each of which the target should be seen.
    """

    target: Floats
    arm: Indices
    propensity: Floats
    weight: Floats
    known: Mask
    region: Indices | None = None

    @cached_property
    def picked(self) -> Floats:
        """The target's probability of the arm that was picked, (n,)."""
        return np.asarray(self.target[np.arange(len(self.arm)), self.arm])

    def take(self, rows: Mask) -> Weighed:
        """The interactions of a mask (n,)."""
        region = None if self.region is None else self.region[rows]
        names = ("target", "arm", "propensity", "weight", "known")
        return Weighed(**{name: getattr(self, name)[rows] for name in names}, region=region)


def effective_n(weight: Floats) -> Floats:
    """How many interactions of equal weight are worth as much as those of `weight` (n, ...).

    (sum w)^2 / sum w^2. Source: Kish 1965, "Survey Sampling".
    """
    squares = np.square(weight).sum(axis=0)
    return np.asarray(np.square(weight.sum(axis=0)) / np.maximum(squares, 1e-300))


def overlap(log: Weighed, *, clip: float = np.inf) -> Overlap:
    """The overlap of a log with a target, and in words why it is too poor, where it is."""
    weight, n = log.weight, len(log.weight)
    total, largest = float(weight.sum()), float(weight.max())
    found = Overlap(
        n=n,
        known_n=int(log.known.sum()),
        effective_n=min(float(effective_n(weight)), n / _least_square(log)),
        largest_weight=largest,
        largest_share=largest / total if total else 0.0,
        mean_weight=total / n,
        mean_weight_error=_mean_error(weight),
        untried=_untried(log),
        clipped=float((weight > min(clip, MOST_IMPLIED_WEIGHT)).mean()),
        arm_n=tuple(np.bincount(log.arm, minlength=log.target.shape[1]).tolist()),
        arm_share=tuple(log.target.mean(axis=0).tolist()),
    )
    return replace(found, reason=_reason(found))


def _reason(found: Overlap) -> str:
    """Why the log cannot tell; empty where it can."""
    if found.known_n == 0:
        return "cannot tell: no interaction has an outcome; report outcomes first"
    if found.untried > MOST_UNTRIED:
        return (
            f"cannot tell: {found.untried:.0%} of what the policy would pick was never or hardly "
            "tried where it would pick it; explore these arms first"
        )
    gap = found.mean_weight - 1.0
    if abs(gap) > max(MOST_Z * found.mean_weight_error, LEAST_GAP):
        return _missed(found)
    if found.effective_n < LEAST_EFFECTIVE_N:
        return (
            f"cannot tell: {found.n:,} interactions are worth only about "
            f"{found.effective_n:.0f} of this policy's, fewer than {LEAST_EFFECTIVE_N:.0f}; "
            "bring more or explore more"
        )
    return ""


def _missed(found: Overlap) -> str:
    if found.mean_weight < 1.0:
        return (
            f"cannot tell: weights average {found.mean_weight:.2f} where 1 is due, so the log "
            "misses picks that the policy would make; explore these arms first"
        )
    return (
        f"cannot tell: weights average {found.mean_weight:.2f} where 1 is due, so the "
        "propensities or response weights do not fit the log; mend them"
    )


def _least_square(log: Weighed) -> float:
    """What a weight's square averages to at least, even where large ones were not drawn.

    Of arms that share a probability 1 - p, the squared weights sum to no less than
    (1 - target)^2 / (1 - p) in expectation, by Cauchy-Schwarz. Blocked picks do not count.
    """
    ours, left = log.picked, np.where(_blocked(log), 0.0, 1.0 - log.picked)
    others = np.square(left) / np.maximum(1.0 - log.propensity, 1e-12)
    others = np.where(left > _NOTHING, others, 0.0)
    return max(float((np.square(ours) / log.propensity + others).mean()), 1e-12)


def _blocked(log: Weighed) -> Mask:
    """Where the target's other picks would count too much, were they tried, (n,)."""
    left = 1.0 - log.picked
    return np.asarray(left > MOST_IMPLIED_WEIGHT * (1.0 - log.propensity) + _NOTHING)


def _mean_error(weight: Floats) -> float:
    return float(weight.std(ddof=1) / np.sqrt(len(weight))) if len(weight) > 1 else np.inf


def _untried(log: Weighed) -> float:
    """The share of the target's picks that was never tried, or as good as never."""
    arms = log.target.shape[1]
    never = np.bincount(log.arm, minlength=arms) == 0
    blind = np.where(_blocked(log), 1.0 - log.picked, log.target @ never.astype(np.float64))
    found = [float(blind.mean()), _missing(log, log.arm, log.target.mean(axis=0))]
    if log.region is not None:
        share = np.bincount(log.region) / len(log.region)
        found.append(_missing(log, log.region, share))
    return max(found)


def _missing(log: Weighed, cell: Indices, share: Floats) -> float:
    """The share of the target's picks that weights miss in the cells (c,), of which each has some.

    A cell's weights should average its share, with a variance of share x their mean by
    weight, there or everywhere, over n; what falls short by less than 3 standard errors is
    held to be chance. Where nothing was tried, a uniform logger tells what should have been.
    """
    n, cells = len(log.weight), len(share)
    squares = np.square(log.weight)
    shown = np.bincount(cell, weights=log.weight, minlength=cells) / n
    typical = np.bincount(cell, weights=squares, minlength=cells) / n / np.maximum(shown, 1e-300)
    everywhere = float(squares.sum()) / max(float(log.weight.sum()), 1e-300)
    error = np.sqrt(share * np.maximum(typical, everywhere) / n)
    due = share * log.known.sum() / log.target.shape[1]
    short = np.where(shown > 0.0, share - shown > _SHORT_Z * error, due >= _EXPECTED_PICKS)
    return float((share - shown)[short].sum())
