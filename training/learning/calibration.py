"""Calibration: from log-odds to probabilities that hold, with intervals around them."""

from __future__ import annotations

import numpy as np
from scipy.stats import beta

from router.policy.arms import chains
from router.policy.calibration import UNKNOWN, Calibration
from router.types import Arm, Floats
from training.learning.logistic import logistic
from training.learning.loglinear import at_rows
from training.log.dataset import Indices, Rows

GRID_POINTS = 64
LEAST_BIN_ROWS = 40
_TAIL = 0.05
_SLOPE_SPREAD, _OFFSET_SPREAD = 3.0, 0.3


def calibrate(raw: Floats, rows: Rows, arms: tuple[Arm, ...]) -> Calibration:
    """Learns from out-of-fold log-odds (q, a) and the scores of the rows.

    An arm's offset is drawn to the common one as by a normal prior of 0.3. The interval is
    the central 90 % of the Jeffreys posterior of the share of correct answers in each of
    at most 64 equal bins, by effective sample size.
    """
    found = at_rows(raw, rows)
    usable = ~np.isnan(found) & ~np.isnan(rows.score)
    rows, found = rows.take(usable), found[usable]
    eyes = _OFFSET_SPREAD * np.eye(len(arms))[rows.arm]
    columns = np.hstack((_SLOPE_SPREAD * found[:, None], eyes))
    bias, weights = logistic(columns, rows.score, rows.weight, 1.0)
    slope, offset = _SLOPE_SPREAD * max(weights[0], 0.0), bias + _OFFSET_SPREAD * weights[1:]
    share = 1.0 / (1.0 + np.exp(-(slope * found + offset[rows.arm])))
    level, below, above = _intervals(share, rows.weight)
    return Calibration(
        slope=np.array(slope),
        offset=np.asarray(offset),
        level=level,
        below=below,
        above=above,
        doubt=np.where(np.bincount(rows.arm, minlength=len(arms)) > 0, 0.0, UNKNOWN),
        chains=chains(arms),
    )


def _intervals(share: Floats, weight: Floats) -> tuple[Floats, Floats, Floats]:
    """The bins' mean probabilities, and the halves of the intervals around them."""
    bins = _bins(share)
    total = np.bincount(bins, weight)
    level = np.bincount(bins, weight * share) / total
    count = total**2 / np.bincount(bins, weight**2)
    right, wrong = level * count + 0.5, (1.0 - level) * count + 0.5
    low, high = beta.ppf(_TAIL, right, wrong), beta.ppf(1.0 - _TAIL, right, wrong)
    return level, np.maximum(level - low, 0.0), np.maximum(high - level, 0.0)


def _bins(values: Floats) -> Indices:
    """The bin of each value, shape (n,): equal counts, equal values together, none empty."""
    count = int(np.clip(len(values) // LEAST_BIN_ROWS, 1, GRID_POINTS))
    edges = np.unique(np.quantile(values, np.arange(1, count) / count))
    found = np.searchsorted(edges, values, side="right")
    return np.asarray(np.unique(found, return_inverse=True)[1], np.intp)


def calibration_error(predicted: Floats, score: Floats, weight: Floats, bins: int = 15) -> float:
    """Expected calibration error over equal-count bins: mean |predicted - seen|, by weight."""
    edges = np.unique(np.quantile(predicted, np.arange(1, bins) / bins))
    where = np.searchsorted(edges, predicted, side="right")
    gap = np.bincount(where, weight * (predicted - score))
    return float(np.abs(gap).sum() / weight.sum())
