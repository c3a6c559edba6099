"""The trade-off curves: of single attempts, and of callers who are willing to continue.

A policy picks the arms whose predictions are too high more often than the others, so that
the mean of what it picked promises too much. Outcomes of the picked arms correct it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.isotonic import IsotonicRegression

from router.policy.continuation import Aim, Walked, walk
from router.policy.evidence import EvidenceModel, probit
from router.policy.planning import Ahead, Continuation
from router.policy.tradeoff import Tradeoff, values_usd
from router.types import Floats, Mask
from training.evaluation.held_out import Predicted
from training.log.dataset import Dataset, Indices

LEAST_QUERIES = 100
"""With fewer queries whose outcome is known, outcomes are noisier than predictions."""

_MOST_CELLS = 5_000_000
_MOST_QUERIES = 2_000


def traced(predicted: Predicted, dataset: Dataset) -> tuple[Tradeoff, int]:
    """The curve of single attempts on out-of-fold predictions, and the most accurate arm.

    Where the log shows the outcome of the arm that is picked for a query, it corrects the
    predictions' mean by the weighted mean of outcome - prediction (doubly robust, with
    self-normalised weights): where every arm was tried, what is left is the outcomes' mean.
    """
    usable = _usable(predicted, dataset)
    part, log = predicted.take(usable), _Log(dataset, usable)
    constants = [log.reached(np.full(usable.sum(), arm), part) for arm in log.arms]
    best = int(np.argmax([accuracy for accuracy, _ in constants]))
    values = values_usd(constants[best][1])
    reached = [log.reached(part.choose(value), part) for value in values]
    return _curve(values, reached, constants[best][0]), best


def continued(
    evidence: EvidenceModel,
    predicted: Predicted,
    dataset: Dataset,
    single: Tradeoff,
    rng: np.random.Generator,
) -> Tradeoff:
    """The curve of walks with continuation, on the values of the single attempts' curve.

    Where every arm was tried, the log's own confidences and outcomes are walked. Else
    surprises are drawn from the evidence model, and what the outcomes took off the single
    attempts' predictions is taken off here too. Where nothing informs, it is the same curve.
    """
    if not evidence.transfer.any():
        return single
    usable = _usable(predicted, dataset)
    full = usable & _full(dataset)
    if full.sum() >= LEAST_QUERIES:
        rows = _some(full, dataset, rng)
        return _walked(evidence, predicted.take(rows), _tables(dataset, rows), single)
    return _imagined(evidence, predicted.take(_some(usable, dataset, rng)), single, rng)


class _Log:
    """What the log tells of the outcomes of picked arms, on some queries."""

    def __init__(self, dataset: Dataset, queries: Mask) -> None:
        self._score, self._cost_usd, self._weight = (
            dataset.table(name)[queries] for name in ("score", "cost_usd", "weight")
        )
        self.arms = range(len(dataset.arms))

    def reached(self, arms: Indices, predicted: Predicted) -> tuple[float, float]:
        """Mean accuracy and mean cost of the picked arms, (n,)."""
        places = np.arange(len(arms)), arms
        weight = self._weight[places]
        return (
            _corrected(predicted.accuracy[places], self._score[places], weight),
            _corrected(predicted.cost_usd[places], self._cost_usd[places], weight),
        )


def _corrected(expected: Floats, known: Floats, weight: Floats) -> float:
    shown = ~np.isnan(known)
    if shown.sum() < LEAST_QUERIES:
        return float(expected.mean())
    error = np.average(known[shown] - expected[shown], weights=weight[shown])
    return float(expected.mean() + error)


def _curve(
    values: Floats, reached: Sequence[tuple[float, float]], best_constant_accuracy: float
) -> Tradeoff:
    accuracy, cost_usd = np.array(reached).T
    return Tradeoff(
        value_usd=values,
        accuracy=np.clip(_rising(accuracy), 0.0, 1.0),
        cost_usd=np.maximum(_rising(cost_usd), 0.0),
        best_constant_accuracy=best_constant_accuracy,
    )


def _rising(values: Floats) -> Floats:
    """The nearest values that never fall: a higher value buys no less accuracy, up to noise."""
    places = np.arange(len(values))
    return np.asarray(IsotonicRegression().fit(places, values).predict(places))


def _usable(predicted: Predicted, dataset: Dataset) -> Mask:
    known = ~np.isnan(predicted.accuracy) & ~np.isnan(predicted.cost_usd)
    typical = True if dataset.typical is None else dataset.typical
    return np.asarray(known.all(axis=1) & typical, bool)


def _full(dataset: Dataset) -> Mask:
    known = ~np.isnan(dataset.table("score")) & ~np.isnan(dataset.table("cost_usd"))
    return np.asarray(known.all(axis=1), bool)


def _some(queries: Mask, dataset: Dataset, rng: np.random.Generator) -> Mask:
    """The queries, or as many of them as can be walked in seconds."""
    most = min(_MOST_QUERIES, _MOST_CELLS // (3 * len(dataset.arms) ** 2))
    places = np.flatnonzero(queries)
    kept = np.zeros_like(queries)
    kept[rng.permutation(places)[: max(most, 1)]] = True
    return kept


def _tables(dataset: Dataset, queries: Mask) -> tuple[Floats, Floats, Floats]:
    score, cost_usd, confidence = (
        dataset.table(name)[queries] for name in ("score", "cost_usd", "confidence")
    )
    return score, cost_usd, confidence


def _walked(
    evidence: EvidenceModel,
    predicted: Predicted,
    tables: tuple[Floats, Floats, Floats],
    single: Tradeoff,
) -> Tradeoff:
    score, cost_usd, confidence = tables
    mu, rows = probit(predicted.accuracy), np.arange(len(score))
    columns = [
        evidence.surprise(np.full(len(rows), arm), mu[:, arm], confidence[:, arm])
        for arm in range(mu.shape[1])
    ]
    reached = [
        (float(score[rows, walked.kept].mean()), _spent(walked, cost_usd))
        for walked in _walks(evidence, predicted, np.stack(columns, axis=1), single)
    ]
    return _curve(single.value_usd, reached, single.best_constant_accuracy)


def _imagined(
    evidence: EvidenceModel, predicted: Predicted, single: Tradeoff, rng: np.random.Generator
) -> Tradeoff:
    shape = predicted.accuracy.shape
    surprise = rng.multivariate_normal(np.zeros(shape[1]), evidence.likeness, shape[0])
    rows, reached = np.arange(shape[0]), []
    for place, walked in enumerate(_walks(evidence, predicted, surprise, single)):
        alone = rows, predicted.choose(float(single.value_usd[place]))
        promised, paid = predicted.accuracy[alone].mean(), predicted.cost_usd[alone].mean()
        accuracy = walked.accuracy.mean() + min(single.accuracy[place] - promised, 0.0)
        cost_usd = _spent(walked, predicted.cost_usd) * single.cost_usd[place] / max(paid, 1e-12)
        reached.append((float(accuracy), float(cost_usd)))
    return _curve(single.value_usd, reached, single.best_constant_accuracy)


def _walks(
    evidence: EvidenceModel, predicted: Predicted, surprise: Floats, single: Tradeoff
) -> list[Walked]:
    """One walk of all queries per value of the curve; `surprise` (n, a) is what arms show."""
    ahead = Continuation(evidence, single).ahead(predicted.accuracy)
    return [_walk(evidence, predicted, surprise, ahead, value) for value in single.value_usd]


def _walk(
    evidence: EvidenceModel, predicted: Predicted, surprise: Floats, ahead: Ahead, value: float
) -> Walked:
    arms = predicted.accuracy.shape[1]
    pairs = ~np.eye(arms, dtype=bool)[None]
    return walk(
        evidence,
        (predicted.accuracy, predicted.cost_usd),
        ahead.utility(value, predicted.cost_usd, pairs).argmax(axis=1),
        Aim(value_usd=value),
        shown=lambda queries, tried: surprise[queries, tried],
        left=lambda queries, _tried: np.ones((len(queries), arms), bool),
    )


def _spent(walked: Walked, cost_usd: Floats) -> float:
    """The mean over queries of the cost of all attempts."""
    tried = walked.arms >= 0
    each = np.take_along_axis(cost_usd, np.maximum(walked.arms, 0), axis=1)
    return float(np.where(tried, each, 0.0).sum(axis=1).mean())
