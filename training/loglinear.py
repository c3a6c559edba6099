"""Log-linear models: per arm, a figure's logarithm as a linear function of the context."""

from __future__ import annotations

from typing import Self

import numpy as np
from sklearn.linear_model import Ridge

from router.policy.features import TEXT_FEATURES
from router.types import Floats
from training.dataset import Indices, Rows

LEAST_ROWS = 30
"""An arm with fewer rows is given its mean logarithm alone."""

_PENALTY = 10.0
_UNBOUNDED = frozenset({"text_mean_word_chars", "text_max_number_digits"})
_LEAST_LOG_SCALE, _LEAST_SCALE = 0.5, 0.1
_LEAST_EMBEDDING_SHARE = 0.5


class LogLinear:
    """A ridge regression per arm on standardised contexts, folded into plain weights.

    After `fit`, `weights_` (a, 1 + f) hold a bias, then a weight per context column; a row
    is NaN where the rows never had the figure. Columns that one text can push
    without bound take no part, and a column that hardly varied in the log is not
    stretched, so that a text unlike all others still gets a sane figure.
    """

    def __init__(self, *, floor: float, penalty: float = _PENALTY) -> None:
        self.floor = floor
        self.penalty = penalty

    def fit(self, contexts: Floats, rows: Rows, values: Floats, arms: int) -> Self:
        """Learns from the rows whose value (n,) is known; contexts are (q, f)."""
        self.weights_ = np.full((arms, 1 + contexts.shape[1]), np.nan)
        known = ~np.isnan(values)
        for arm in range(arms):
            mine = known & (rows.arm == arm)
            if mine.any():
                logs = self.logs(values[mine])
                self.weights_[arm] = self._weights(
                    contexts[rows.query[mine]], logs, rows.weight[mine]
                )
        return self

    def predict(self, contexts: Floats) -> Floats:
        """The expected logarithm for each context and arm, shape (q, a)."""
        return np.asarray(self.weights_[:, 0] + contexts @ self.weights_[:, 1:].T)

    def logs(self, values: Floats) -> Floats:
        """Logarithms of the values, of which none counts as less than the floor."""
        return np.asarray(np.log(np.maximum(values, self.floor)))

    def _weights(self, contexts: Floats, logs: Floats, weight: Floats) -> Floats:
        folded = np.zeros(1 + contexts.shape[1])
        folded[0] = np.average(logs, weights=weight)
        if len(logs) < LEAST_ROWS:
            return np.asarray(folded)
        center, scale = contexts.mean(axis=0), scales(contexts)
        ridge = Ridge(alpha=self.penalty).fit((contexts - center) / scale, logs, weight)
        folded[1:] = ridge.coef_ / scale
        folded[0] = ridge.intercept_ - center @ folded[1:]
        return np.asarray(folded)


def scales(contexts: Floats) -> Floats:
    """What each context column is divided by, shape (f,); infinite where it takes no part."""
    text = len(TEXT_FEATURES)
    least = [_LEAST_LOG_SCALE if "_log_" in name else _LEAST_SCALE for name in TEXT_FEATURES]
    scale = np.ones(contexts.shape[1])
    scale[:text] = np.maximum(contexts[:, :text].std(axis=0), least)
    spread = contexts[:, text:].std(axis=0)
    if len(spread):
        scale[text:] = np.maximum(spread, max(_LEAST_EMBEDDING_SHARE * float(spread.max()), 1e-6))
    scale[[TEXT_FEATURES.index(name) for name in _UNBOUNDED]] = np.inf
    return np.asarray(scale)


def at_rows(predicted: Floats, rows: Rows) -> Floats:
    """What was predicted (q, a) for each row's query and arm, shape (n,)."""
    return np.asarray(predicted[rows.query, rows.arm])


def residuals(predicted: Floats, logs: Floats, rows: Rows, arm: int) -> tuple[Floats, Indices]:
    """Out-of-fold residuals of one arm's rows where both sides are known, and those rows."""
    errors = logs - at_rows(predicted, rows)
    mine = np.flatnonzero((rows.arm == arm) & ~np.isnan(errors))
    return errors[mine], mine
