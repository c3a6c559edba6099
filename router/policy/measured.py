"""The load of a model's backend, measured from what its attempts showed. Pure.

What first tokens come later than usual is taken off each latency before it is held against
what was predicted of the time after them. An answer that is hardly more than its first token
shows little of that, and counts only where its tenant has too few others. A tenant that tells
no first tokens has its voice on them all the same, so that nobody's word counts more: they
come no later than its answers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low

import numpy as np

from router.conditions import Backend
from router.policy.firsts import UsualFirsts
from router.policy.flights import Due
from router.policy.seen import Seen
from router.policy.slowdown import FASTEST, LEAST_ATTEMPTS, aged, ages, delayed, estimated, spread
from router.policy.slowdown import median as weighted_median
from router.types import Floats

LEAST_REST, LEAST_LEFT = 0.25, 0.02
LEAST_OPEN = 1.0 / 3.0
MOST_FACTOR, MOST_SPREAD = 1_000.0, 1.0
MATTERS = 0.05
"""A delay of first tokens that is less than this share of the usual latency is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """What recent attempts of a model showed, None where unknown: medians, and a share."""

    first_token_s: float | None = None
    tokens_per_s: float | None = None
    failed_share: float | None = None


def ratio(timed: Sequence[Seen]) -> float:
    """The ratio of whole latencies to what was predicted; 1 where it is not clearly another."""
    return estimated(_ratios(timed), _ended_s(timed), _tenants(timed))


def measured(timed: Sequence[Seen], usual: UsualFirsts) -> Backend:
    """The load that attempts with latencies show, which ended at rising times."""
    known = [each for each in timed if _usual_s(each, usual) is not None]
    if len(known) < LEAST_ATTEMPTS:
        return Backend(slowdown=ratio(timed))
    usual_s = median_low({each.tenant: _usual_s(each, usual) or 0.0 for each in known}.values())
    later_s = _delayed(timed, usual, usual_s)
    pace = _pace(timed, usual, usual_s, later_s)
    if pace == 1.0 and later_s == 0.0:
        return Backend()
    return Backend(
        slowdown=pace,
        first_token_s=usual_s + min(max(later_s, -FASTEST * usual_s), MOST_FACTOR * usual_s),
        usual_first_token_s=usual_s,
        first_token_spread=_spread(known) if later_s > 0.0 else 0.0,
    )


def overdue(timed: Sequence[Seen], due: Sequence[Due]) -> float:
    """The slowdown that attempts which should have ended show beyond those that have, or 1.

    Tenants of whom none is due have their voice by what has ended.
    """
    open_share = _weights([each.seen for each in due]) @ [not each.ended for each in due]
    if open_share < LEAST_OPEN:
        return 1.0
    tenants = {each.seen.tenant for each in due}
    others = [each for each in timed if each.tenant not in tenants]
    worse = ratio(sorted((*others, *(each.seen for each in due)), key=_end_s))
    return worse if worse > ratio(timed) else 1.0


def _end_s(what: Seen) -> float:
    return what.ended_s


def _usual_s(what: Seen, usual: UsualFirsts) -> float | None:
    """What the first token of the attempt's tenant usually takes, if its own is known too."""
    told = what.first_token_s is not None and what.median_s is not None
    return usual.of(what.tenant) if told else None


def _delayed(timed: Sequence[Seen], usual: UsualFirsts, usual_s: float) -> float:
    """By how many seconds first tokens come later than usual; `usual_s` is theirs otherwise."""
    silent = [each.median_s is not None and usual.of(each.tenant) is None for each in timed]
    heard = [
        each
        for each, says_nothing in zip(timed, silent, strict=True)
        if says_nothing or _usual_s(each, usual) is not None
    ]
    own_s = np.array([usual.of(each.tenant) or usual_s for each in heard])
    factors = np.array([_took_s(each, usual, usual_s) for each in heard]) / own_s
    logs = np.log(np.clip(factors, 1.0 / MOST_FACTOR, MOST_FACTOR))
    later_s = delayed(logs, own_s, _ended_s(heard), _tenants(heard))
    matters_s = MATTERS * float(np.median([each.median_s or 0.0 for each in heard]))
    return later_s if abs(later_s) >= matters_s else 0.0


def _took_s(what: Seen, usual: UsualFirsts, usual_s: float) -> float:
    """What a first token took, or can have taken at most where its tenant tells none."""
    if what.first_token_s is not None and usual.of(what.tenant) is not None:
        return what.first_token_s
    median_s = what.median_s or 0.0
    return usual_s + median_s * math.expm1(what.log_ratio or 0.0) / what.firsts


def _spread(known: Sequence[Seen]) -> float:
    """How widely the logarithms of first tokens lie around their median, for a usual tenant."""
    found = []
    for tenant in set(_tenants(known)):
        own = [each for each in known if each.tenant == tenant]
        logs = np.log(np.array([each.first_token_s for each in own], np.float64))
        weights = _weights(own)
        found.append(spread(logs, weights, weighted_median(logs, weights)))
    return round(min(median_low(found), MOST_SPREAD), 2)


def _pace(timed: Sequence[Seen], usual: UsualFirsts, usual_s: float, later_s: float) -> float:
    """How many times as long as usual all takes that follows first tokens."""
    own_s = np.array([usual.of(each.tenant) or usual_s for each in timed])
    firsts = np.array([each.firsts for each in timed])
    median_s = np.array([each.median_s or 1.0 for each in timed])
    rest_s = median_s - firsts * own_s
    shows = rest_s >= LEAST_REST * median_s
    left_s, whole_s = _left_s(timed, own_s + later_s), median_s + firsts * later_s
    latency_s = median_s * np.exp(_ratios(timed))
    ratios = np.log(
        np.where(
            shows,
            np.maximum(left_s, LEAST_LEFT * latency_s) / np.where(shows, rest_s, 1.0),
            latency_s / np.maximum(whole_s, LEAST_LEFT * median_s),
        )
    )
    enough = Counter(each.tenant for each, does in zip(timed, shows, strict=True) if does)
    counts = shows | np.array([enough[each.tenant] < LEAST_ATTEMPTS for each in timed])
    tenants = [each.tenant for each, does in zip(timed, counts, strict=True) if does]
    return estimated(ratios[counts], _ended_s(timed)[counts], tenants)


def _left_s(timed: Sequence[Seen], first_s: Floats) -> Floats:
    """What attempts took after their first tokens, which take `first_s` where not told, (n,)."""
    took_s = np.array([each.first_token_s or np.nan for each in timed])
    later_s = np.array([each.firsts - 1.0 for each in timed]) * np.maximum(first_s, 0.0)
    latency_s = np.array([each.median_s or 1.0 for each in timed]) * np.exp(_ratios(timed))
    return np.asarray(latency_s - later_s - np.where(np.isnan(took_s), first_s, took_s))


def live(kept: Sequence[Seen]) -> Live:
    """What attempts show that ended at rising times, the newest counting most."""
    return Live(
        first_token_s=_recent(kept, [each.first_token_s for each in kept]),
        tokens_per_s=_recent(kept, [each.tokens_per_s for each in kept]),
        failed_share=failed_share(kept) if kept else None,
    )


def _recent(kept: Sequence[Seen], values: Sequence[float | None]) -> float | None:
    known = [(each, value) for each, value in zip(kept, values, strict=True) if value is not None]
    if not known:
        return None
    weights = _weights([each for each, _ in known])
    return weighted_median(np.array([value for _, value in known]), weights)


def failed_share(several: Sequence[Seen]) -> float:
    """The share of failures, by weight, among attempts that ended at rising times."""
    return float(_weights(several) @ [each.failed for each in several])


def _weights(several: Sequence[Seen]) -> Floats:
    """How much each of some attempts counts (n,), of those that ended at rising times; sum 1."""
    weights = aged(ages(_ended_s(several)))
    return np.asarray(weights / weights.sum()) if len(weights) else weights


def _ratios(timed: Sequence[Seen]) -> Floats:
    return np.array([each.log_ratio for each in timed], np.float64)


def _ended_s(several: Sequence[Seen]) -> Floats:
    return np.array([each.ended_s for each in several], np.float64)


def _tenants(several: Sequence[Seen]) -> list[str]:
    return [each.tenant for each in several]
