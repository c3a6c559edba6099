"""How much a period of a budget is expected to have to pay for, by the hours of the past."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import accumulate

import numpy as np

from router.errors import InvalidInput

HOUR = timedelta(hours=1)

EVENNESS_DAYS = 2.0
"""What is expected of an hour of the day, or of a weekday, is drawn towards the mean of all by
so many days on which it was like the mean: bursts of a single day say little of the next."""

ELASTICITY = 0.6
"""Where a dollar counts for m dollars, decisions are taken to cost m ** -ELASTICITY of what they
cost otherwise. A wrong one moves the price by other steps to the same place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hour:
    """An hour's decisions, and the mean logarithm of what a dollar counted for in them."""

    starts_at: datetime
    decisions: float
    log_multiplier: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """How a period's demand is expected to be spread over it: weights of equal slots."""

    weights: tuple[float, ...] = (1.0,)
    _ends: tuple[float, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.weights or not all(0.0 < weight < math.inf for weight in self.weights):
            raise InvalidInput(f"{self.weights!r:.80} are not positive weights", field="weights")
        total = math.fsum(self.weights)
        ends = (0.0, *(end / total for end in accumulate(self.weights)))
        object.__setattr__(self, "_ends", ends)

    def before(self, elapsed: float) -> float:
        """The share of the period's demand expected by this share of its time."""
        at = min(max(elapsed, 0.0), 1.0) * len(self.weights)
        slot = min(int(at), len(self.weights) - 1)
        before, after = self._ends[slot : slot + 2]
        return min(before + (at - slot) * (after - before), 1.0)


EVEN = Demand()


@dataclass(frozen=True, slots=True, kw_only=True)
class Habit:
    """How many decisions each hour of the day is expected to bring, times its weekday's factor.

    `since` is the first hour that is known of, None where none is.
    """

    by_hour: tuple[float, ...] = (1.0,) * 24
    by_weekday: tuple[float, ...] = (1.0,) * 7
    since: datetime | None = None

    @classmethod
    def of(cls, hours: Iterable[Hour], until: datetime) -> Habit:
        """Learns from the whole hours until `until` (UTC); those that are not named had none."""
        counts = {hour.starts_at: hour.decisions for hour in hours if hour.starts_at < until}
        counts = {at: count for at, count in counts.items() if count > 0.0}
        if not counts:
            return cls()
        since = min(counts)
        every = _hours(since, until)
        count = np.array([counts.get(at, 0.0) for at in every])
        place = np.array([at.hour for at in every])
        weekday = np.array([at.weekday() for at in every])
        mean = float(count.mean())
        seen = np.bincount(place, minlength=24) + EVENNESS_DAYS
        by_hour = (np.bincount(place, count, 24) + EVENNESS_DAYS * mean) / seen
        day = 24.0 * EVENNESS_DAYS * mean
        expected = np.bincount(weekday, by_hour[place], 7) + day
        by_weekday = (np.bincount(weekday, count, 7) + day) / expected
        return cls(
            by_hour=tuple(by_hour.tolist()), by_weekday=tuple(by_weekday.tolist()), since=since
        )

    def per_hour(self, since: datetime, until: datetime) -> list[float]:
        """How many decisions each hour from `since` until `until` is expected to bring."""
        every = _hours(since, until)
        return [self.by_hour[at.hour] * self.by_weekday[at.weekday()] for at in every]

    def demand(self, since: datetime, until: datetime) -> Demand:
        """How the demand of a period is expected to be spread."""
        return Demand(weights=tuple(self.per_hour(since, until)))


def _hours(since: datetime, until: datetime) -> list[datetime]:
    return [since + place * HOUR for place in range(max(math.ceil((until - since) / HOUR), 0))]


def unpriced_micro_usd(spent_micro_usd: float, hours: Iterable[Hour]) -> float:
    """What these hours would have cost had a dollar counted for itself, by what they did cost."""
    known = [(hour.decisions, hour.log_multiplier) for hour in hours]
    priced = sum(count * math.exp(-ELASTICITY * log) for count, log in known)
    return (
        spent_micro_usd * sum(count for count, _ in known) / priced if priced else spent_micro_usd
    )
