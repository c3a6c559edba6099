"""Coverage: how often a latency stayed below its predicted quantile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import beta

from router.slo import LATENCY_QUANTILES
from router.types import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """The share of an arm's rows at or below a quantile, with its exact 95 % interval."""

    arm: str
    quantile: float
    rows: int
    share: float
    low: float
    high: float


def coverage(arms: tuple[str, ...], latency_s: Floats, quantiles_s: Floats) -> tuple[Coverage, ...]:
    """Measured coverage per arm and quantile; latencies (q, a), quantiles (q, a, 3).

    Share = #(latency <= predicted quantile) / rows, over rows that have both. The interval
    is Clopper and Pearson's (1934). Arms without such rows are left out.
    """
    known = ~np.isnan(latency_s)[:, :, None] & ~np.isnan(quantiles_s)
    below = known & (np.nan_to_num(latency_s)[:, :, None] <= quantiles_s)
    rows, covered = known.sum(axis=0), below.sum(axis=0)
    return tuple(
        _coverage(arms[arm], quantile, int(rows[arm, place]), int(covered[arm, place]))
        for arm in range(len(arms))
        for place, quantile in enumerate(LATENCY_QUANTILES)
        if rows[arm, place]
    )


def _coverage(arm: str, quantile: float, rows: int, covered: int) -> Coverage:
    low = beta.ppf(0.025, covered, rows - covered + 1) if covered else 0.0
    high = beta.ppf(0.975, covered + 1, rows - covered) if covered < rows else 1.0
    return Coverage(
        arm=arm,
        quantile=quantile,
        rows=rows,
        share=covered / rows,
        low=float(low),
        high=float(high),
    )
