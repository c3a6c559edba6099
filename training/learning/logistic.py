"""Logistic regression of scores that may be fractions."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression

from router.types import Floats

_MOST_STEPS = 500


def logistic(
    columns: Floats, score: Floats, weight: Floats, penalty_inverse: float
) -> tuple[float, Floats]:
    """The bias and the weights (c,) of columns (n, c) for scores (n,) in [0, 1].

    Each row stands in once as right and once as wrong, by its score. Scores that are all
    alike give the bias alone.
    """
    labels = np.repeat([1, 0], len(score))
    weights = np.concatenate((weight * score, weight * (1.0 - score)))
    counted = weights > 0
    if len(np.unique(labels[counted])) < 2:
        return _extreme(score, weight), np.zeros(columns.shape[1])
    regression = LogisticRegression(C=penalty_inverse, max_iter=_MOST_STEPS)
    regression.fit(np.vstack((columns, columns))[counted], labels[counted], weights[counted])
    return float(regression.intercept_[0]), np.asarray(regression.coef_[0], np.float64)


def _extreme(score: Floats, weight: Floats) -> float:
    """The log-odds of scores that are all 0 or all 1, with half a row of the other kind."""
    right, wrong = float((weight * score).sum()) + 0.5, float((weight * (1.0 - score)).sum()) + 0.5
    return float(np.log(right / wrong))
