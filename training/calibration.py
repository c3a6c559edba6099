"""Calibration: from raw scores to probabilities that hold, with intervals around them."""

from __future__ import annotations

import numpy as np
from scipy.stats import beta
from sklearn.isotonic import IsotonicRegression

from router.policy.predictor import Calibration
from router.types import Floats
from training.dataset import Indices

GRID_POINTS = 64
LEAST_BIN_ROWS = 40
_TAIL = 0.05


def calibrate(raw: Floats, score: Floats, weight: Floats) -> Calibration:
    """Fits an isotonic curve through at most 64 equal bins of raw scores, all (n,).

    The interval of each point is the central 90 % of the Jeffreys posterior of its bin's
    share of correct answers, by effective sample size.
    """
    bins = _bins(raw)
    total = np.bincount(bins, weight)
    center = np.bincount(bins, weight * raw) / total
    share = np.bincount(bins, weight * score) / total
    fitted = IsotonicRegression(y_min=0.0, y_max=1.0).fit(center, share, total).predict(center)
    low, high = _interval(fitted, total**2 / np.bincount(bins, weight**2))
    return Calibration(scores=center, accuracy=fitted, low=low, high=high)


def _bins(raw: Floats) -> Indices:
    """The bin of each score, shape (n,): equal counts, equal scores together, none empty."""
    count = int(np.clip(len(raw) // LEAST_BIN_ROWS, 1, GRID_POINTS))
    edges = np.unique(np.quantile(raw, np.arange(1, count) / count))
    found = np.searchsorted(edges, raw, side="right")
    return np.asarray(np.unique(found, return_inverse=True)[1], np.intp)


def _interval(share: Floats, count: Floats) -> tuple[Floats, Floats]:
    right, wrong = share * count + 0.5, (1.0 - share) * count + 0.5
    low = np.minimum(beta.ppf(_TAIL, right, wrong), share)
    high = np.maximum(beta.ppf(1.0 - _TAIL, right, wrong), share)
    return np.maximum.accumulate(low), np.minimum.accumulate(high[::-1])[::-1].copy()


def calibration_error(predicted: Floats, score: Floats, weight: Floats, bins: int = 15) -> float:
    """Expected calibration error over equal-count bins: mean |predicted - seen|, by weight."""
    edges = np.unique(np.quantile(predicted, np.arange(1, bins) / bins))
    where = np.searchsorted(edges, predicted, side="right")
    gap = np.bincount(where, weight * (predicted - score))
    return float(np.abs(gap).sum() / weight.sum())
