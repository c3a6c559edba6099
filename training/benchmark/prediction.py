"""How good predicted accuracies are, whatever is decided with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import roc_auc_score

from router.types import Floats
from training.learning.calibration import calibration_error


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionFigures:
    """Brier score, AUC (None where all answers are right, or all wrong) and ECE."""

    rows: int
    brier: float
    auc: float | None
    ece: float


def prediction_figures(
    predicted: Floats, score: Floats, weight: Floats | None = None
) -> PredictionFigures:
    """Figures of predicted accuracies against scores, both (n,), n >= 1.

    Brier = mean (p - score)^2 (Brier 1950). AUC is the chance that an answer which scores
    0.5 or more was predicted above one that scores less. ECE = mean over 15 bins of equal
    count, by weight, of |mean p - mean score| (Naeini et al. 2015).
    """
    weights = np.ones(len(score)) if weight is None else weight
    right = score >= 0.5
    both = 0 < right.sum() < len(right)
    return PredictionFigures(
        rows=len(score),
        brier=float(np.average((predicted - score) ** 2, weights=weights)),
        auc=float(roc_auc_score(right, predicted)) if both else None,
        ece=calibration_error(predicted, score, weights),
    )
