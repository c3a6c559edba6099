"""How long an attempt takes: the median's logarithm, and conformal quantiles around it."""

from __future__ import annotations

import math

import numpy as np

from router.policy.priors import LATENCY_SPREAD
from router.types import LATENCY_QUANTILES, Floats
from training.dataset import Rows
from training.loglinear import LogLinear, residuals

LEAST_LATENCY_S = 1e-3


def latency_model() -> LogLinear:
    """The untrained model of log latency in seconds."""
    return LogLinear(floor=LEAST_LATENCY_S)


def spread(predicted: Floats, rows: Rows, arms: int) -> Floats:
    """Residual quantiles of log latency per arm, shape (a, 3), from out-of-fold residuals.

    The q quantile of n residuals is the one of rank ceil((n + 1) q), so that a new one is
    at or below it with probability q at least (split conformal prediction). Where n is too
    small for that rank, it is the greatest residual or the prior's, whichever is greater.
    """
    logs = latency_model().logs(rows.latency_s)
    quantiles = np.full((arms, len(LATENCY_QUANTILES)), np.nan)
    for arm in range(arms):
        errors, _ = residuals(predicted, logs, rows, arm)
        if len(errors):
            quantiles[arm] = conformal(errors)
    return quantiles


def conformal(errors: Floats) -> Floats:
    """The quantiles of LATENCY_QUANTILES with the finite-sample rank, rising; shape (3,)."""
    ordered = np.sort(errors)
    found = []
    for quantile, least in zip(LATENCY_QUANTILES, LATENCY_SPREAD, strict=True):
        rank = math.ceil((len(ordered) + 1) * quantile)
        inside = rank <= len(ordered)
        found.append(ordered[rank - 1] if inside else max(float(ordered[-1]), float(least)))
    return np.maximum.accumulate(np.array(found))
