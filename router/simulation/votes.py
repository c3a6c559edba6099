"""How often a vote over samples is right, in closed form.

A sample is right with probability p; a wrong one falls on one of a few plausible wrong
answers, whose shares fall geometrically, so that wrong answers can win a vote too.
"""

from __future__ import annotations

from functools import cache
from math import comb, factorial

import numpy as np

from router.types import Floats

WRONG_ANSWERS = 5
WRONG_RATIO = 0.60


def wrong_shares() -> Floats:
    """The shares of the wrong answers among wrong samples, shape (WRONG_ANSWERS,), sum 1."""
    shares = WRONG_RATIO ** np.arange(WRONG_ANSWERS)
    return np.asarray(shares / shares.sum(), dtype=np.float64)


def vote_accuracy(accuracy: Floats | float, samples: int) -> Floats:
    """Probability that the plurality of `samples` is right; ties are broken evenly.

    `accuracy` is that of one sample, any shape; the result has the same. It is
    sum over k of C(n, k) p^k (1 - p)^(n - k) x P(k right ones win).
    """
    p = np.asarray(accuracy, dtype=np.float64)[..., None]
    k = np.arange(samples + 1)
    ways = np.array([comb(samples, int(right)) for right in k], dtype=np.float64)
    return np.asarray((ways * p**k * (1 - p) ** (samples - k) * _wins(samples)).sum(axis=-1))


@cache
def _wins(samples: int) -> Floats:
    wins = np.array([_win(right, samples - right) for right in range(samples + 1)])
    wins.setflags(write=False)
    return wins


def _win(right: int, wrong: int) -> float:
    """Probability that `right` equal votes win against `wrong` scattered ones.

    Exponential generating functions, one for each number of wrong answers that tie.
    """
    by_ties = {0: np.ones(1)}
    for share in wrong_shares():
        terms = np.array([share**i / factorial(i) for i in range(right + 1)])
        below, tie = terms * (np.arange(right + 1) < right), terms * (np.arange(right + 1) == right)
        grown: dict[int, Floats] = {}
        for ties, series in by_ties.items():
            for count, factor in ((ties, below), (ties + 1, tie)):
                product = np.convolve(series, factor)
                grown[count] = grown[count] + product if count in grown else product
        by_ties = grown
    return sum(
        factorial(wrong) * float(series[wrong]) / (1 + ties)
        for ties, series in by_ties.items()
        if wrong < len(series)
    )
