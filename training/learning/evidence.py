"""Evidence: what the log teaches about confidence, by moments of a Gaussian copula.

Three steps: confidence becomes a surprise, by its rank and by what the prediction lets
expect; the surprise of one arm is correlated with the outcome of each; and surprises with
one another. Each correlation is shrunk, the more the fewer rows tell it: of pairs that no
query shows together, as in a bandit log, the prior is all there is.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri
from scipy.stats import norm, rankdata

from router.policy.evidence import ALIKE, PASSED_ON, EvidenceModel, probit
from router.types import Floats, Mask
from training.log.dataset import Dataset

LEAST_ROWS = 50
"""Scored rows with confidence that an arm needs to inform of anything."""

KNOTS = 64
_FURTHEST = 2.5
_MOST_CORRELATION = 0.95
_PRIOR_ROWS = 30.0
_PRIOR_INFORMATION = 5.0
_LEAST_LIKENESS = 0.05


def fit(dataset: Dataset, accuracy: Floats) -> EvidenceModel:
    """Learns from out-of-fold predictions (q, a) and the confidences in the log.

    An arm informs nothing where fewer than 50 of its scored rows have a confidence, or
    where it never varies, or its outcome never does.
    """
    confidence, score = dataset.table("confidence"), dataset.table("score")
    weight = dataset.table("weight")
    mu = probit(accuracy)
    known = ~np.isnan(confidence) & ~np.isnan(score) & ~np.isnan(mu)
    informing = np.array([_informs(confidence[:, j], score[:, j], known[:, j]) for j in _each(mu)])
    knots, scores = _ranks(confidence, known & informing)
    ranked = np.stack([np.interp(confidence[:, j], knots[j], scores[j]) for j in _each(mu)], axis=1)
    expected, spread = _expected(ranked, mu, known & informing)
    surprise = (ranked - expected[:, 0] - expected[:, 1] * mu) / spread
    shown = np.where(informing & ~np.isnan(surprise) & ~np.isnan(mu), surprise, 0.0)
    return EvidenceModel(
        knots=knots,
        scores=scores,
        expected=expected,
        spread=spread,
        transfer=_transfer(shown, score - accuracy, mu, np.nan_to_num(weight)),
        likeness=_likeness(shown),
    )


def _each(table: Floats) -> range:
    return range(table.shape[1])


def _informs(confidence: Floats, score: Floats, known: Mask) -> bool:
    return bool(
        known.sum() >= LEAST_ROWS and np.ptp(confidence[known]) > 0 and np.ptp(score[known]) > 0
    )


def _ranks(confidence: Floats, known: Mask) -> tuple[Floats, Floats]:
    """Confidences and the normal scores of their ranks, both (a, k); ties share a rank."""
    knots = np.zeros((confidence.shape[1], KNOTS))
    scores = np.zeros_like(knots)
    for arm in _each(confidence):
        values = confidence[known[:, arm], arm]
        if len(values):
            different, places = np.unique(values, return_index=True)
            ranks = ndtri((rankdata(values)[places] - 0.5) / len(values))
            chosen = np.linspace(0, len(different) - 1, KNOTS).round().astype(np.intp)
            knots[arm], scores[arm] = different[chosen], ranks[chosen]
    return knots, np.clip(scores, -_FURTHEST, _FURTHEST)


def _expected(ranked: Floats, mu: Floats, known: Mask) -> tuple[Floats, Floats]:
    """By least squares: the score that mu lets expect (a, 2), and the spread around it (a,)."""
    expected, spread = np.zeros((mu.shape[1], 2)), np.ones(mu.shape[1])
    for arm in _each(mu):
        rows = known[:, arm]
        if rows.any():
            columns = np.column_stack((np.ones(rows.sum()), mu[rows, arm]))
            expected[arm] = np.linalg.lstsq(columns, ranked[rows, arm], rcond=None)[0]
            spread[arm] = max((ranked[rows, arm] - columns @ expected[arm]).std(), 1e-6)
    return expected, spread


def _likeness(shown: Floats) -> Floats:
    """Correlations of surprises (a, a), shrunk to the prior, then made positive definite."""
    told = (shown != 0.0).astype(np.float64)
    raw = (shown.T @ shown + _PRIOR_ROWS * ALIKE) / (told.T @ told + _PRIOR_ROWS)
    informing = told.any(axis=0)
    raw = np.where(np.outer(informing, informing), raw, 0.0)
    np.fill_diagonal(raw, 1.0)
    values, vectors = np.linalg.eigh(raw)
    proper = (vectors * np.maximum(values, _LEAST_LIKENESS)) @ vectors.T
    scale = np.sqrt(np.diag(proper))
    return np.asarray(proper / np.outer(scale, scale))


def _transfer(shown: Floats, residual: Floats, mu: Floats, weight: Floats) -> Floats:
    """Correlations of surprises with outcomes, (a, a).

    The covariance of a standard normal r with the event mu + xi > 0 is rho phi(mu), so rho
    is the least-squares weight of phi(mu) r in score - accuracy. An arm's own is shrunk to
    0; another's to what a surprise passes on before anything is known of the pair.
    """
    known = ~np.isnan(residual) & ~np.isnan(mu)
    density = np.where(known, norm.pdf(mu), 0.0)
    moment = shown.T @ (weight * density * np.where(known, residual, 0.0))
    information = (shown**2).T @ (weight * density**2)
    own = np.diag(moment) / (np.diag(information) + _PRIOR_INFORMATION)
    prior = _PRIOR_INFORMATION * PASSED_ON * own[:, None]
    rho = (moment + prior) / (information + _PRIOR_INFORMATION)
    np.fill_diagonal(rho, own)
    return np.asarray(np.clip(rho, -_MOST_CORRELATION, _MOST_CORRELATION))
