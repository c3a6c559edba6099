"""Learns what novelty is measured against: how remote training queries are, out of fold."""

from __future__ import annotations

import numpy as np

from router.policy.novelty import NoveltyArrays
from router.types import Floats

MOST_REFERENCES = 4_096
_LEAST_SCALE = 1e-6


def reference(parts: Floats) -> NoveltyArrays:
    """The arrays for parts of remoteness (q, 2), each of a query that its landmarks had not seen.

    Rows of NaN, for queries that took no part, are left out. Both parts weigh alike: they
    count in units of the middle half of queries.
    """
    known = parts[~np.isnan(parts).any(axis=1)]
    low, center, high = np.quantile(known, (0.25, 0.5, 0.75), axis=0)
    blank = NoveltyArrays(
        center=center, scale=np.maximum(high - low, _LEAST_SCALE), reference=np.empty(0)
    )
    return NoveltyArrays(
        center=blank.center, scale=blank.scale, reference=_spread(blank.remoteness(known))
    )


def _spread(values: Floats) -> Floats:
    """The values, rising; of more than 4,096, so many order statistics."""
    if len(values) <= MOST_REFERENCES:
        return np.sort(values)
    return np.quantile(values, np.linspace(0.0, 1.0, MOST_REFERENCES), method="higher")
