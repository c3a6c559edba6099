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
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.special import ndtri

from router.conditions import Backend
from router.policy.latency import quantiles_of, shape
from router.policy.table import ArmTable
from router.slo import LATENCY_QUANTILES
from router.types import Arm, Floats, Mask, Predictions

_SCORES = ndtri(np.array(LATENCY_QUANTILES))


@lru_cache(maxsize=4_096)
def first_tokens(arm: Arm, spread: float) -> tuple[float, ...]:
    """The LATENCY_QUANTILES of the time that an arm's first tokens take in all, over one call's.

    What is over is the median of a call's, which is log-normal with the spread.
    """
    shaped = replace(shape(arm), length=1.0)
    return tuple(np.exp(quantiles_of(shaped, spread * _SCORES)).tolist())


def loaded_median_s(usual_s: float, firsts: float, backend: Backend) -> float:
    """The median on a backend of an arm whose first tokens take so many times one call's."""
    pace = backend.slowdown
    return max(pace * usual_s + firsts * _later_s(backend), min(pace, 1.0) * usual_s)


def usual_median_s(loaded_s: float, firsts: float, backend: Backend) -> float:
    """The median at the usual speed: `loaded_median_s` the other way round."""
    pace = backend.slowdown
    return min((loaded_s - firsts * _later_s(backend)) / pace, loaded_s / min(pace, 1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a load does to each arm, (a,), and to its quantiles beyond the median, (2, a).

    `waits` marks arms of which first tokens are known; None where there are none.
    """

    pace: Floats
    least: Floats
    later_s: Floats
    beyond_s: Floats
    waits: Mask | None

    def on(self, usual_s: Floats) -> Floats:
        """The LATENCY_QUANTILES under the load, from those at the usual speed, both (3, a)."""
        paced_s = self.pace * usual_s
        if self.waits is None:
            return paced_s
        median_s = np.maximum(paced_s[0] + self.later_s, self.least * usual_s[0])
        beyond_s = np.hypot(paced_s[1:] - paced_s[0], self.beyond_s)
        waited_s = np.concatenate((median_s[None], median_s + beyond_s))
        return np.asarray(np.where(self.waits, waited_s, paced_s))


@lru_cache(maxsize=64)
def load_of(table: ArmTable, backends: tuple[tuple[str, Backend], ...]) -> Load:
    """What models that do not do as predicted do to the arms of a table."""
    named, nothing = dict(backends), Backend()
    each = [named.get(model, nothing) for model in table.models]
    pace = np.array([backend.slowdown for backend in each])
    firsts = np.array(
        [
            first_tokens(arm, backend.first_token_spread)
            for arm, backend in zip(table.arms, each, strict=True)
        ]
    ).T
    waiting_s = np.array(
        [max(backend.first_token_s - backend.usual_first_token_s, 0.0) for backend in each]
    )
    waits = np.array([backend.usual_first_token_s > 0.0 for backend in each], bool)
    return Load(
        pace=pace,
        least=np.minimum(pace, 1.0),
        later_s=firsts[0] * np.array([_later_s(backend) for backend in each]),
        beyond_s=waiting_s * (firsts[1:] - firsts[0]),
        waits=waits if waits.any() else None,
    )


def loaded(
    predictions: Predictions, table: ArmTable, backends: Mapping[str, Backend]
) -> Predictions:
    """What is expected of the arms under the load of their backends."""
    usual_s = np.array(
        (predictions.latency_p50_s, predictions.latency_p95_s, predictions.latency_p99_s)
    )
    p50_s, p95_s, p99_s = load_of(table, tuple(backends.items())).on(usual_s)
    return replace(predictions, latency_p50_s=p50_s, latency_p95_s=p95_s, latency_p99_s=p99_s)


def _later_s(backend: Backend) -> float:
    """What a call takes beyond `slowdown` times its usual latency, in seconds."""
    return backend.first_token_s - backend.slowdown * backend.usual_first_token_s
