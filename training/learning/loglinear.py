"""Log-linear models: per arm, a figure's logarithm as a linear function of the context.

Columns that one text can push without bound take no part, and a column that hardly varied
in the log is not stretched, so that a text unlike all others still gets a sane figure.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import PoissonRegressor, Ridge

from router.policy.features import TEXT_FEATURES
from router.types import Floats
from training.log.dataset import Rows

LEAST_ROWS = 30
"""An arm with fewer rows is given its mean logarithm alone."""

PENALTY = 10.0
_MOST_STEPS = 50
_UNBOUNDED = frozenset({"text_mean_word_chars", "text_max_number_digits"})
_LEAST_LOG_SCALE, _LEAST_SCALE = 0.5, 0.1
_LEAST_EMBEDDING_SHARE = 0.5


def ridge_weights(contexts: Floats, logs: Floats, weight: Floats) -> Floats:
    """A bias and weights (1 + f,) of the mean logarithm, from contexts (n, f) and logs (n,)."""
    bias = float(np.average(logs, weights=weight))
    return _folded(Ridge(alpha=PENALTY), bias, contexts, logs, weight)


def poisson_weights(contexts: Floats, values: Floats, weight: Floats) -> Floats:
    """A bias and weights (1 + f,) of the logarithm of the mean, from values (n,) >= 0.

    A Poisson regression needs nothing of its values but that their mean is log-linear
    (Gourieroux, Monfort and Trognon 1984), and its predictions have the mean of the values.
    Values that are all 0 have a bias of minus infinity.
    """
    mean = float(np.average(values, weights=weight))
    if mean <= 0.0:
        return _constant(-math.inf, contexts)
    model = PoissonRegressor(
        alpha=PENALTY / len(values), solver="newton-cholesky", max_iter=_MOST_STEPS
    )
    with warnings.catch_warnings():  # where a Newton step fails, it goes on with L-BFGS
        warnings.simplefilter("ignore", ConvergenceWarning)
        folded = _folded(model, 0.0, contexts, values / mean, weight)
    folded[0] += math.log(mean)
    return folded


def _folded(model: Any, bias: float, contexts: Floats, values: Floats, weight: Floats) -> Floats:
    """The weights of a linear model fitted to standardised contexts; few rows give the bias."""
    if len(values) < LEAST_ROWS:
        return _constant(bias, contexts)
    center, scale = contexts.mean(axis=0), scales(contexts)
    model.fit((contexts - center) / scale, values, weight)
    slopes = model.coef_ / scale
    return np.concatenate(([model.intercept_ - center @ slopes], slopes))


def _constant(bias: float, contexts: Floats) -> Floats:
    return np.concatenate(([bias], np.zeros(contexts.shape[1])))


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
