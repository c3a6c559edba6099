"""The latency of arms on a backend under load, from that at its usual speed.

Two things move. A queue delays a call's first token, whatever is written, from F0 to F. So an
arm's, the slowest of its calls side by side, one round after another, take c F and not c F0,
as `latency.py` says of passes. And a backend that writes slowly takes g times as long for all
that follows:

    median = g (usual - c F0) + c F

A quantile lies beyond it by the root of two squares: g times what it does usually, and what
the same quantile of c does, times F - F0. Where no first token is known, F0 = F = 0, and all
is g times the usual.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

import numpy as np
from scipy.special import ndtri

from router.conditions import Backend
from router.policy.latency import quantiles_of, shape
from router.policy.table import ArmTable
from router.slo import LATENCY_QUANTILES
from router.types import Arm, Floats, Predictions

_SCORES = ndtri(np.array(LATENCY_QUANTILES))


@lru_cache(maxsize=4_096)
def first_tokens(arm: Arm, spread: float) -> tuple[float, ...]:
    """The LATENCY_QUANTILES of the time that an arm's first tokens take in all, over one call's.

    What is over is the median of a call's, which is log-normal with the spread.
    """
    shaped = replace(shape(arm), length=1.0)
    return tuple(np.exp(quantiles_of(shaped, spread * _SCORES)).tolist())


def loaded_s(usual_s: Floats, firsts: Floats, backend: Backend) -> Floats:
    """The LATENCY_QUANTILES (3, a) of arms on a backend, from those at its usual speed, (3, a).

    `firsts` (3, a) are their `first_tokens`. No median is less than `usual` puts it.
    """
    pace, later_s = backend.slowdown, _later_s(backend)
    middle = np.maximum(pace * usual_s[0] + firsts[0] * later_s, min(pace, 1.0) * usual_s[0])
    waiting_s = max(backend.first_token_s - backend.usual_first_token_s, 0.0)
    beyond = np.hypot(pace * (usual_s - usual_s[0]), waiting_s * (firsts - firsts[0]))
    return np.asarray(middle + beyond)


def loaded_median_s(usual_s: float, firsts: float, backend: Backend) -> float:
    """The median on a backend of an arm whose first tokens take so many times one call's."""
    pace = backend.slowdown
    return max(pace * usual_s + firsts * _later_s(backend), min(pace, 1.0) * usual_s)


def usual_median_s(loaded_s: float, firsts: float, backend: Backend) -> float:
    """The median at the usual speed: `loaded_median_s` the other way round."""
    pace = backend.slowdown
    return min((loaded_s - firsts * _later_s(backend)) / pace, loaded_s / min(pace, 1.0))


def _later_s(backend: Backend) -> float:
    """What a call takes beyond `slowdown` times its usual latency, in seconds."""
    return backend.first_token_s - backend.slowdown * backend.usual_first_token_s


def loaded(
    predictions: Predictions, table: ArmTable, backends: Mapping[str, Backend]
) -> Predictions:
    """What is expected of the arms of models that do not do as predicted."""
    latency_s = np.array(
        [predictions.latency_p50_s, predictions.latency_p95_s, predictions.latency_p99_s]
    )
    for model, backend in backends.items():
        of_model = table.of_model(model)
        if not backend.usual_first_token_s:
            latency_s[:, of_model] *= backend.slowdown
            continue
        arms = [table.arms[place] for place in np.flatnonzero(of_model)]
        firsts = np.array([first_tokens(arm, backend.first_token_spread) for arm in arms])
        latency_s[:, of_model] = loaded_s(latency_s[:, of_model], firsts.reshape(-1, 3).T, backend)
    p50_s, p95_s, p99_s = latency_s
    return replace(predictions, latency_p50_s=p50_s, latency_p95_s=p95_s, latency_p99_s=p99_s)
