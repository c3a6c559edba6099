"""How slow a model's backend is, from what its attempts took. Pure.

An attempt shows the logarithm of its latency over the median that was predicted for it. A
tenant's estimate is the median of its attempts, where one counts half as much when 16 newer
ones of its tenant have ended, or 10 s have passed (a pause counts as at most 5 s, so that
nothing is forgotten for want of news).

Latencies are what callers say, so no tenant's word counts more than another's: each with
three attempts by weight has one voice, the others have one together, and the median m over
the voices counts; of two in the middle it is the one nearer to 0. The slowdown moves away
from 1 only when m is more than 3 standard errors and a factor of 1.2 from it, and is then
shrunk by how uncertain it is: log slowdown = m t^2 / (t^2 + se^2), t = log 2. A voice's se is
1.25 spread / sqrt(n); that of k > 3 voices is the median of theirs over sqrt(k / 3), and up
to 3 voices it is the median itself, since one that lies leaves the extreme of the others.

How much later first tokens come is heard in the same way, in seconds: a voice's ratio r to
what its first tokens usually take, u, says u (r - 1), since a queue delays all alike.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import median_high, median_low

import numpy as np

from router.types import Floats

HALF_LIFE_ATTEMPTS, HALF_LIFE_S, LONGEST_PAUSE_S = 16.0, 10.0, 5.0
LEAST_FACTOR, LEAST_ERRORS, LEAST_ATTEMPTS = 1.2, 3.0, 3
COUNTED_SHARE = 1.0 / 3.0
SLOWEST, FASTEST = 32.0, 0.5

_SPREAD, _SPREAD_COUNTS = 0.6, 4.0
_LEAST_SPREAD = 0.1
_PRIOR = math.log(2.0)


def estimated(log_ratios: Floats, ended_s: Floats, tenants: Sequence[str]) -> float:
    """The slowdown that attempts (n,), which ended at rising times, show."""
    if len(tenants) < LEAST_ATTEMPTS:
        return 1.0
    age = ages(ended_s)
    return _agreed([_shown(log_ratios[own], aged(age[own])) for own in _voices(tenants, age)])


def delayed(log_ratios: Floats, usual_s: Floats, ended_s: Floats, tenants: Sequence[str]) -> float:
    """By how many seconds first tokens come later than usual.

    `log_ratios` (n,) are those of each to what it takes usually, `usual_s` (n,).
    """
    if len(tenants) < LEAST_ATTEMPTS:
        return 0.0
    age = ages(ended_s)
    shown = [
        (float(np.median(usual_s[own])), *_shown(log_ratios[own], aged(age[own])))
        for own in _voices(tenants, age)
    ]
    later_s, error_s = _heard(
        [(usual * math.expm1(ratio), usual * math.exp(ratio) * se) for usual, ratio, se in shown]
    )
    least_s = (LEAST_FACTOR - 1.0) * median_low(usual for usual, _, _ in shown)
    return later_s if abs(later_s) >= max(least_s, LEAST_ERRORS * error_s) else 0.0


def ages(ended_s: Floats) -> Floats:
    """The halvings of attempts (n,) that ended at rising times, by the time since."""
    if not len(ended_s):
        return ended_s
    pauses = np.minimum(np.diff(ended_s), LONGEST_PAUSE_S) / HALF_LIFE_S
    return np.concatenate((np.cumsum(pauses[::-1])[::-1], [0.0]))


def aged(age: Floats) -> Floats:
    """What attempts (n,) of falling ages count; 1 is one that has just ended, with none newer."""
    newer = np.arange(len(age))[::-1]
    return np.asarray(np.exp2(-age - newer / HALF_LIFE_ATTEMPTS))


def _voices(tenants: Sequence[str], age: Floats) -> list[list[int]]:
    """The places of each tenant with enough attempts by weight, and those of the others.

    The others together need as many too, unless nobody else is heard.
    """
    by_tenant = defaultdict(list)
    for place, tenant in enumerate(tenants):
        by_tenant[tenant].append(place)
    heard = [own for own in by_tenant.values() if _enough(age[own])]
    alone = {place for own in heard for place in own}
    others = [place for place in range(len(tenants)) if place not in alone]
    return [*heard, others] if not heard or _enough(age[others]) else heard


def _enough(age: Floats) -> bool:
    return len(age) >= LEAST_ATTEMPTS and float(aged(age).sum()) >= LEAST_ATTEMPTS


def _shown(log_ratios: Floats, weights: Floats) -> tuple[float, float]:
    """The median of log ratios (n,) with weights (n,), n > 0, and its standard error."""
    weights = weights / weights.sum()
    middle = median(log_ratios, weights)
    error = 1.25 * spread(log_ratios, weights, middle) * float(np.sqrt(weights @ weights))
    return middle, error


def spread(log_ratios: Floats, weights: Floats, middle: float) -> float:
    """How widely log ratios (n,) with weights (n,), sum 1, lie around their median."""
    count = 1.0 / float(weights @ weights)
    shown = 1.48 * median(np.abs(log_ratios - middle), weights)
    shown = (_SPREAD_COUNTS * _SPREAD + count * shown) / (_SPREAD_COUNTS + count)
    return max(shown, _LEAST_SPREAD)


def _heard(voices: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """What voices say together, each with its standard error: the median, and its own."""
    ordered, half = sorted(middle for middle, _ in voices), len(voices) // 2
    middle = min(ordered[half], ordered[-1 - half], key=abs)
    error = median_high(error for _, error in voices)
    return middle, error / math.sqrt(max(len(voices) * COUNTED_SHARE, 1.0))


def _agreed(voices: Sequence[tuple[float, float]]) -> float:
    """The slowdown that log ratios with their standard errors show, one for each voice."""
    middle, error = _heard(voices)
    if abs(middle) < max(math.log(LEAST_FACTOR), LEAST_ERRORS * error):
        return 1.0
    shrunk = middle * _PRIOR**2 / (_PRIOR**2 + error**2)
    return min(max(math.exp(shrunk), FASTEST), SLOWEST)


def median(values: Floats, weights: Floats) -> float:
    """The median of values (n,) with weights (n,), sum 1."""
    order = np.argsort(values)
    place = int(np.searchsorted(np.cumsum(weights[order]), 0.5))
    return float(values[order[min(place, len(values) - 1)]])
