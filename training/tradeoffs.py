"""The trade-off curve: from outcomes where every arm was tried, else from predictions alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from sklearn.isotonic import IsotonicRegression

from router.policy.tradeoff import Tradeoff, trace
from router.types import Floats
from training.evaluation import Predicted, outcome

LEAST_QUERIES = 100
"""With fewer queries whose every arm was tried, their outcomes are noisier than predictions."""


def traced(predicted: Predicted, score: Floats, cost_usd: Floats) -> tuple[Tradeoff, int]:
    """The curve of out-of-fold predictions, and the most accurate arm's index; all (q, a).

    A policy picks the arms whose predictions are too high more often than the others, so
    that the mean of what it picked promises too much. Where every arm was tried, the
    outcomes of the picked arms stand in its place.
    """
    usable = np.asarray(~np.isnan(predicted.accuracy).any(axis=1), bool)
    full = usable & ~np.isnan(score).any(axis=1) & ~np.isnan(cost_usd).any(axis=1)
    if full.sum() < LEAST_QUERIES:
        part = predicted.take(usable)
        best = int(part.accuracy.mean(axis=0).argmax())
        return trace(part.accuracy, part.cost_usd), best
    return _measured(predicted.take(full), score[full], cost_usd[full])


def _measured(predicted: Predicted, score: Floats, cost_usd: Floats) -> tuple[Tradeoff, int]:
    curve = trace(predicted.accuracy, predicted.cost_usd)
    reached = [outcome(predicted.choose(value), score, cost_usd) for value in curve.value_usd]
    costs, accuracies = np.array(reached).T
    best = int(score.mean(axis=0).argmax())
    return replace(
        curve,
        accuracy=_rising(accuracies),
        cost_usd=_rising(costs),
        best_constant_accuracy=float(score[:, best].mean()),
    ), best


def _rising(values: Floats) -> Floats:
    """The nearest values that never fall: a higher value buys no less accuracy, up to noise."""
    places = np.arange(len(values))
    return np.asarray(IsotonicRegression().fit(places, values).predict(places))
