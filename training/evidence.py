"""Evidence: how an attempt's confidence moves the belief in its answer, and in other arms'."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from sklearn.linear_model import LogisticRegression

from router.policy.continuation import EvidenceModel
from router.types import Floats
from training.dataset import Dataset, Rows
from training.loglinear import at_rows

LEAST_ROWS = 100
LEAST_POOLED_ROWS = 20
_CLIP = 1e-4
_PENALTY_INVERSE = 1.0
_MOST_PAIRS = 200_000


def fit(dataset: Dataset, accuracy: Floats, *, rng: np.random.Generator) -> EvidenceModel:
    """Learns from out-of-fold predictions (q, a) and the confidences in the log.

    Confidence is standardised per arm, so that arms with few rows can share what all of
    them show: an arm has weights of its own from 100 scored rows with confidence on, and
    the pooled ones from 20 on. Below that, or where confidence never varies, it informs
    nothing: its weights are NaN.
    """
    arms = len(dataset.arms)
    model = EvidenceModel(
        weights=np.full((arms, 3), np.nan),
        center=np.zeros(arms),
        scale=np.ones(arms),
        transfer=0.0,
    )
    prior = log_odds(accuracy)
    unknown = np.isnan(dataset.rows.confidence) | np.isnan(at_rows(prior, dataset.rows))
    rows = dataset.rows.take(dataset.scored & ~unknown)
    informing = [arm for arm in range(arms) if _standardise(model, arm, rows)]
    pooled = _weights(model, rows.take(np.isin(rows.arm, informing)), prior)
    for arm in informing:
        own = _weights(model, rows.take(rows.arm == arm), prior)
        model.weights[arm] = next((each for each in (own, pooled) if each is not None), np.nan)
    return replace(model, transfer=_transfer(dataset, prior, model, rng))


def log_odds(probability: Floats) -> Floats:
    """Log-odds of probabilities, none nearer than 1e-4 to 0 or 1, as serving has it."""
    clipped = np.clip(probability, _CLIP, 1.0 - _CLIP)
    return np.asarray(np.log(clipped / (1.0 - clipped)))


def _standardise(model: EvidenceModel, arm: int, rows: Rows) -> bool:
    """Sets the arm's center and scale; whether its confidence can inform at all."""
    confidence = rows.confidence[rows.arm == arm]
    if len(confidence) < LEAST_POOLED_ROWS or not confidence.std() > 0.0:
        return False
    model.center[arm], model.scale[arm] = confidence.mean(), confidence.std()
    return True


def _weights(model: EvidenceModel, rows: Rows, prior: Floats) -> Floats | None:
    """Bias, slope and weight fitted on the rows; None where they are too few or all alike."""
    if len(rows) < LEAST_ROWS or not 0.0 < rows.score.mean() < 1.0:
        return None
    surprise = (rows.confidence - model.center[rows.arm]) / model.scale[rows.arm]
    columns = np.column_stack((at_rows(prior, rows), surprise))
    fitted = _logistic(columns, rows.score, rows.weight)
    return np.array([fitted.intercept_[0], *fitted.coef_[0]])


def _logistic(columns: Floats, score: Floats, weight: Floats) -> LogisticRegression:
    """Fits fractional scores too: each row stands in once as right and once as wrong."""
    labels = np.repeat([1, 0], len(score))
    weights = np.concatenate((weight * score, weight * (1.0 - score)))
    counted = weights > 0
    regression = LogisticRegression(C=_PENALTY_INVERSE, max_iter=500)
    return regression.fit(np.vstack((columns, columns))[counted], labels[counted], weights[counted])


def _transfer(
    dataset: Dataset, prior: Floats, model: EvidenceModel, rng: np.random.Generator
) -> float:
    """The weight of an arm's move in log-odds on another arm's answer to the same query.

    One regression over all pairs of arms that were tried on the same query; 0 when there
    are none.
    """
    move = _moves(dataset, prior, model)
    score = dataset.table("score")
    columns, labels = _pairs(prior, move, score, rng)
    if len(labels) < LEAST_ROWS or not 0.0 < labels.mean() < 1.0:
        return 0.0
    fitted = _logistic(columns, labels, np.ones(len(labels)))
    return float(np.clip(fitted.coef_[0, 1], 0.0, 1.0))


def _moves(dataset: Dataset, prior: Floats, model: EvidenceModel) -> Floats:
    """By how much each attempt's confidence moves its own log-odds, (q, a); NaN if unknown."""
    surprise = (dataset.table("confidence") - model.center) / model.scale
    bias, slope, weight = model.weights.T
    return np.asarray(bias + slope * prior + weight * surprise - prior)


def _pairs(
    prior: Floats, move: Floats, score: Floats, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Rows of (the other arm's log-odds, the tried arm's move) with the other arm's score."""
    arms = score.shape[1]
    columns, labels = [], []
    for tried in range(arms):
        known = ~np.isnan(move[:, [tried]]) & ~np.isnan(score) & ~np.isnan(prior)
        known[:, tried] = False
        query, other = np.nonzero(known)
        share = _MOST_PAIRS // arms
        if len(query) > share:
            kept = np.sort(rng.choice(len(query), share, replace=False))
            query, other = query[kept], other[kept]
        columns.append(np.column_stack((prior[query, other], move[query, tried])))
        labels.append(score[query, other])
    return np.concatenate(columns), np.concatenate(labels)
