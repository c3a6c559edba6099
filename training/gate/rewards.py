"""The gate's reward model: what every arm is expected to bring, independent of the candidate.

A first guess, which knew none of these interactions, is corrected by ridge regressions of
what it misses, per arm, on the queries' embeddings. Each fold is foretold by the others, so
that no expectation has seen its own outcome, nor that of the same query.
"""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import Ridge

from router.types import Floats, Mask
from training.log.dataset import Indices

FOLDS = 5
_PENALTY = 20.0
_LEAST_ROWS = 5


def corrected(
    guess: Floats, outcome: Floats, arm: Indices, vectors: Floats, fold: Indices
) -> Floats:
    """Expectations (n, a) from a guess (n, a) and the `outcome` (n,) of each row's `arm`.

    Outcomes are NaN where unknown, `vectors` (n, d) embed the queries and `fold` (n,) keeps
    rows of one query together.
    """
    columns = np.hstack((vectors, np.ones((len(vectors), 1))))
    missed = outcome - guess[np.arange(len(guess)), arm]
    known, found = ~np.isnan(missed), guess.copy()
    for number in np.unique(fold).tolist():
        inside = fold == number
        for place in range(guess.shape[1]):
            rows = known & ~inside & (arm == place)
            found[inside, place] += _foretold(columns, missed, rows, inside)
    return found


def _foretold(columns: Floats, missed: Floats, rows: Mask, inside: Mask) -> Floats:
    """What a guess is expected to miss inside, learnt from the rows; 0 where they are few."""
    if rows.sum() < _LEAST_ROWS:
        return np.zeros(int(inside.sum()))
    model = Ridge(alpha=_PENALTY, fit_intercept=False).fit(columns[rows], missed[rows])
    return np.asarray(model.predict(columns[inside]), np.float64)
