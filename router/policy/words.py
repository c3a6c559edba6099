"""Words: the buckets that a text's tokens and pairs of tokens fall into.

Feature hashing (Weinberger and others 2009) over the embedder's tokens: what one word says
of a query survives there, and is lost in the mean of all of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BUCKETS = 1 << 15  # a power of two, so that a mask is the remainder

Words = NDArray[np.intp]
"""Buckets of one text, rising and each once, shape (w,)."""

_FIRST, _SECOND, _SHIFT = 1_000_003, 7_919, 12_345


def words(tokens: NDArray[np.int64]) -> Words:
    """The buckets of a text's tokens (t,) and of each token with the next."""
    pairs = tokens[:-1] * _FIRST
    pairs += tokens[1:] * _SECOND
    pairs += _SHIFT
    found = np.concatenate((tokens, pairs))
    found &= BUCKETS - 1
    found.sort()
    first = np.empty(len(found), bool)
    first[:1] = True
    np.not_equal(found[1:], found[:-1], out=first[1:])
    return found[first]
