"""Clipped weights: less variance for a bias that is bounded, and what that bound costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from router.errors import InvalidInput
from router.types import Floats
from training.benchmark.bootstrap import Interval
from training.evaluation.intervals import bernstein_margin
from training.evaluation.logged import Logged
from training.evaluation.overlap import Weighed

CLIPS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)


def switched(logged: Logged, weighed: Weighed, clip: float) -> Floats:
    """The scores of switch-DR, (n,): direct + w 1[w <= clip] (r - q).

    Source: Wang, Agarwal & Dudik 2017, "Optimal and adaptive off-policy evaluation in
    contextual bandits".
    """
    kept = np.where(weighed.weight <= clip, weighed.weight, 0.0)
    return np.asarray(logged.direct(weighed.target) + kept * logged.residual)


def switch_clip(logged: Logged, weighed: Weighed) -> float:
    """The clip of switch-DR with the least variance + squared bias at most.

    The bias is at most the mean weight above the clip times the range of rewards (section
    4.1 there), which is that of the known ones where none is stated.
    """
    span = logged.span if np.isfinite(logged.span) else logged.known_span

    def risk(clip: float) -> float:
        found = switched(logged, weighed, clip)
        lost = float(np.where(weighed.weight > clip, weighed.weight, 0.0).mean())
        return float(found.var()) / len(found) + (span * lost) ** 2

    return min((*CLIPS, np.inf), key=risk)


def bernstein_interval(
    logged: Logged, weighed: Sequence[Weighed], confidence: float, clip: float | None
) -> Interval:
    """The interval of DR with weights min(w, clip), of one policy or one less another.

    By empirical Bernstein bounds, of the clipped mean and of what clipping can hide: at
    most (1 - mean of min(w, clip)) x the range of rewards, since weights average 1, or less
    where the log misses arms. The shortest of all clips holds, as each spends its share of
    the level. Raises InvalidInput when rewards have no bounds or rows come in clusters.
    """
    if not np.isfinite(logged.span):
        raise InvalidInput("Bernstein's interval needs the bounds of rewards", field="most")
    if logged.cluster is not None:
        raise InvalidInput("Bernstein's interval needs rows without clusters", field="cluster")
    clips = CLIPS if clip is None else (clip,)
    level = (1.0 - confidence) / (len(clips) * (2 + len(weighed)))
    found = [_bernstein(logged, weighed, each, level) for each in clips]
    return min(found, key=lambda each: each.high - each.low)


def _bernstein(logged: Logged, weighed: Sequence[Weighed], clip: float, level: float) -> Interval:
    """The interval at one clip, each of whose bounds is broken with a chance of `level`."""
    signs, span = (1.0, -1.0), logged.span
    kept = [np.minimum(each.weight, clip) for each in weighed]
    values = np.zeros(len(logged))
    for sign, each, weight in zip(signs, weighed, kept, strict=False):
        values += sign * (logged.direct(each.target) + weight * logged.residual)
    width = span * len(weighed) * (1.0 + (2.0 if len(weighed) == 1 else 1.0) * clip)
    margin = bernstein_margin(values, width, level)
    half, estimate = margin + span * sum(_hidden(each, clip, level) for each in kept), values.mean()
    bounds = (logged.least, logged.most) if len(weighed) == 1 else (-span, span)
    low, middle, high = np.clip((estimate - half, estimate, estimate + half), *bounds).tolist()
    return Interval(estimate=middle, low=low, high=high)


def _hidden(clipped: Floats, clip: float, level: float) -> float:
    """The share of the target's picks that the clipped weights (n,) may not show, at most."""
    return max(1.0 - float(clipped.mean()) + bernstein_margin(clipped, clip, level), 0.0)
