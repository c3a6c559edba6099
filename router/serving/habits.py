"""What one slo's past hours tell of its budgets: how demand is spread, and what periods cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from router.policy.demand import HOUR, Demand, Habit, Hour, unpriced_micro_usd
from router.policy.pacing import KNOWN, Pace
from router.policy.periods import period_end, periods
from router.store.promise_seams import BudgetRecord

LOOK_BACK = timedelta(days=14)
AGAIN = timedelta(minutes=1)


class Habits:
    """The hours of the last two weeks, read once and then hour by hour; not thread-safe."""

    def __init__(self) -> None:
        self._hours: dict[datetime, Hour] = {}
        self._habit = Habit()
        self._until: datetime | None = None
        self._asked: datetime | None = None

    def missing(self, now: datetime) -> datetime | None:
        """The hour from which on to read, None where nothing is due; asks once a minute."""
        this = periods(now)["hour"]
        if self._until == this or (self._asked is not None and now - self._asked < AGAIN):
            return None
        self._asked = now
        return max(self._until or this - LOOK_BACK, this - LOOK_BACK)

    def take(self, hours: Iterable[Hour], now: datetime) -> None:
        """Takes in the hours that were missing; the last, which goes on, is read again."""
        self._until = periods(now)["hour"]
        since = self._until - LOOK_BACK
        known = self._hours | {hour.starts_at: hour for hour in hours}
        self._hours = {at: hour for at, hour in known.items() if at >= since}
        self._habit = Habit.of(self._hours.values(), self._until)

    def demand(self, period: str, starts_at: datetime) -> Demand:
        """How the demand of the period that begins then is expected to be spread."""
        return self._habit.demand(starts_at, period_end(period, starts_at))

    def usual(self, pace: Pace, period: str, starts_at: datetime, past: Past) -> Pace:
        """The pace with what the period is expected to cost by the earlier ones.

        Their cost per expected decision, each as it would have been at the price 0. It is
        trusted the less, the less of a period they amount to.
        """
        since, cost, decisions = self._habit.since, 0.0, 0.0
        if since is None:
            return pace
        for record in past:
            end = period_end(period, record.starts_at)
            if record.starts_at < starts_at and end > since:
                cost += self.unpriced(record.spent_micro_usd, record.starts_at, end)
                decisions += sum(self._habit.per_hour(max(record.starts_at, since), end))
        if not cost or not decisions:
            return pace
        coming = sum(self._habit.per_hour(starts_at, period_end(period, starts_at)))
        trust = KNOWN * min(decisions / coming, 1.0)
        return replace(pace, usual_micro_usd=cost / decisions * coming, trust=trust)

    def unpriced(self, spent_micro_usd: int, since: datetime, until: datetime) -> float:
        """What was spent in this time, had a dollar counted for itself."""
        hours = [hour for at, hour in self._hours.items() if since <= at < until]
        return unpriced_micro_usd(spent_micro_usd, hours)


Past = Sequence[BudgetRecord]
"""What was spent of one budget in its periods."""


def asked_since(budget_periods: Iterable[str], now: datetime) -> datetime:
    """From when on the spending of earlier periods tells something."""
    if "month" not in budget_periods:
        return now - LOOK_BACK
    return periods(periods(now)["month"] - HOUR)["month"]
