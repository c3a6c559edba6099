"""Which answers are scored at all, and what each scored one stands for.

Few answers are scored, and not at random: long ones, strange ones, those of some arms. What
is known of every answer tells how probable a score was, and its inverse is how many answers
a scored one stands for (inverse probability weighting, Horvitz & Thompson 1952). This holds
where scoring depends on the answer's truth only by what the covariates know; no log can show
that it does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from router.types import Floats, Mask
from training.learning.logistic import logistic
from training.log.dataset import MOST_WEIGHT, Indices

LEAST_SCORED = 50
"""With fewer scored answers, or unscored ones, nothing is learnt of which ones are."""

MOST_TAUGHT = 100_000
"""Of more rows every so many-th tells some dozens of weights as well."""

_LEAST_PROBABILITY = 1e-4
_PENALTY_INVERSE = 1.0


@dataclass(frozen=True, kw_only=True)
class Response:
    """How probable a score was for n answers, and what the scored ones count for.

    `weight` (n,) has a mean of 1 over the scored answers and is 0 for the others.
    `effective` is how many scored answers of equal weight would tell as much; `auc` how well
    the covariates tell scored answers from others, out of fold: 0.5 is at random.
    """

    probability: Floats
    weight: Floats
    scored: int
    effective: float
    auc: float | None


def respond(covariates: Floats, scored: Mask, fold: Indices, counts: Floats) -> Response:
    """Learns from covariates (n, c) of a like spread, out of fold, who is scored.

    `counts` (n,) tells for how many answers each row was drawn. Where all are scored, or
    too few, every scored one counts the same.
    """
    if min(scored.sum(), (~scored).sum()) < LEAST_SCORED:
        share = float(np.average(scored, weights=counts)) if len(scored) else 1.0
        return _response(np.full(len(scored), max(share, _LEAST_PROBABILITY)), scored, None)
    probability = out_of_fold(covariates, scored.astype(float), fold, counts, np.ones_like(scored))
    auc = float(roc_auc_score(scored, probability, sample_weight=counts))
    return _response(np.maximum(probability, _LEAST_PROBABILITY), scored, auc)


def out_of_fold(
    columns: Floats, score: Floats, fold: Indices, counts: Floats, taught: Mask
) -> Floats:
    """The expectation (n,) of scores in [0, 1], each learnt from the `taught` of other folds."""
    found = np.empty(len(score))
    for number in np.unique(fold):
        inside, others = fold == number, (fold != number) & taught
        rows = np.flatnonzero(others if others.any() else taught)
        some = rows[:: max(len(rows) // MOST_TAUGHT, 1)]
        bias, weights = logistic(columns[some], score[some], counts[some], _PENALTY_INVERSE)
        found[inside] = expit(bias + columns[inside] @ weights)
    return found


def _response(probability: Floats, scored: Mask, auc: float | None) -> Response:
    weight = np.zeros(len(scored))
    weight[scored] = bounded(1.0 / probability[scored])
    total, squares = float(weight.sum()), float(np.square(weight).sum())
    return Response(
        probability=probability,
        weight=weight,
        scored=int(scored.sum()),
        effective=total**2 / squares if squares else 0.0,
        auc=auc,
    )


def bounded(weight: Floats) -> Floats:
    """Weights with a mean of 1, none above 20 times the mean before the bound."""
    if not len(weight) or (weight == weight[0]).all():
        return np.ones(len(weight))
    cut = np.minimum(weight, MOST_WEIGHT * weight.mean())
    return np.asarray(cut / cut.mean())


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """The mean score of a group's answers, the unscored ones too, with its standard error."""

    raw: float
    mean: float
    error: float


def level(score: Floats, probability: Floats, expected: Floats, counts: Floats) -> Level | None:
    """The doubly robust mean over n answers; None where none is scored.

    mean(expected + scored / probability x (score - expected)), the second part with
    self-normalised weights (Robins, Rotnitzky & Zhao 1994): right when either `expected` (n,)
    or `probability` (n,) is. `score` (n,) is NaN where an answer has none.
    """
    scored = ~np.isnan(score)
    if not scored.any():
        return None
    weight = np.where(scored, counts / probability, 0.0)
    weight *= counts.sum() / weight.sum()
    rest = weight * np.where(scored, score - expected, 0.0)
    mean = float(np.average(expected, weights=counts) + rest.sum() / counts.sum())
    around = counts * (expected - mean) + rest
    error = float(np.sqrt(np.square(around).sum()) / counts.sum())
    return Level(raw=float(score[scored].mean()), mean=min(max(mean, 0.0), 1.0), error=error)
