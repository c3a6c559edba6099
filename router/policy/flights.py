"""Attempts that are under way: what they show of a backend before they have ended. Pure.

An answer that takes four times as long is reported after four times as long. But of attempts
that began twice their median ago, most should have ended. Where a third has not, what those
have taken so far is held against the medians, as `slowdown.py` does with what has ended: the
median of values of which some are only known to be greater is too small if anything.

Only attempts of callers who report count: at least four in five of theirs were reported
lately, and they asked for something within the last 5 s. What their reports usually lag
behind by is taken off. Of each tenant's attempts on a model one in a quarter of a second is
followed, for a minute or ten times its median.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite, log
from uuid import UUID

from router.policy.seen import Seen

EVERY_S, MOST_FOLLOWED = 0.25, 4_096
FOLLOWED_S, FOLLOWED_MEDIANS = 60.0, 10.0
LATE_MEDIANS = 2.0
LEAST_REPORTED, REPORTED_RATE, LAG_KEPT = 0.8, 0.1, 0.9
ABSENT_S, MARGIN_S = 5.0, 0.25
MOST_TENANTS = 1_000


@dataclass(slots=True, kw_only=True)
class Flight:
    """One attempt; times in epoch seconds, NaN where latency was never measured.

    `median_s` is that at the backend's usual speed, `expected_s` that under the load when it
    began. `stands_for` counts those that are not followed.
    """

    attempt: UUID
    model: str
    tenant: str
    began_s: float
    median_s: float
    expected_s: float
    stands_for: int = 1
    ended: bool = False
    latency_s: float | None = None


@dataclass(slots=True, kw_only=True)
class _Caller:
    """How well one tenant reports."""

    reported: float = 0.0
    lag_s: float = 0.0
    asked_s: float = 0.0

    def told(self, share: float) -> None:
        self.reported += REPORTED_RATE * (share - self.reported)

    def counts(self, now_s: float) -> bool:
        return self.reported >= LEAST_REPORTED and now_s - self.asked_s <= ABSENT_S


class Flights:
    """A worker's attempts that are under way, and those that have lately ended."""

    def __init__(self) -> None:
        self._flights: OrderedDict[UUID, Flight] = OrderedDict()
        self._callers: OrderedDict[str, _Caller] = OrderedDict()
        self._newest: dict[tuple[str, str], Flight] = {}

    def wants(self, model: str, tenant: str, began_s: float) -> bool:
        """Whether to follow an attempt; otherwise one that is followed already stands for it."""
        caller = self._callers.setdefault(tenant, _Caller())
        caller.asked_s = max(caller.asked_s, began_s)
        self._callers.move_to_end(tenant)
        if len(self._callers) > MOST_TENANTS:
            self._callers.popitem(last=False)
        newest = self._newest.get((model, tenant))
        if newest is None or began_s >= newest.began_s + EVERY_S:
            return True
        newest.stands_for += 1
        return False

    def began(self, flight: Flight) -> None:
        """Follows an attempt."""
        self._newest[flight.model, flight.tenant] = flight
        self._flights[flight.attempt] = flight
        if len(self._flights) > MOST_FOLLOWED:
            self._leave(next(iter(self._flights.values())))

    def ended(self, attempt: UUID, told_s: float, latency_s: float | None) -> bool:
        """Notes that an attempt was reported; False where it is not followed here."""
        flight = self._flights.get(attempt)
        if flight is None:
            return False
        caller = self._callers.get(flight.tenant)
        if caller is not None and not flight.ended:
            caller.told(1.0)
            if latency_s is not None:
                lag_s = told_s - flight.began_s - latency_s
                caller.lag_s = max(lag_s, LAG_KEPT * caller.lag_s)
        flight.ended, flight.latency_s = True, flight.latency_s or latency_s
        return True

    def forget(self, now_s: float) -> None:
        """Follows no further what began too long ago."""
        for flight in [each for each in self._flights.values() if _over(each, now_s)]:
            caller = self._callers.get(flight.tenant)
            if caller is not None and not flight.ended:
                caller.told(0.0)
            self._leave(flight)

    def _leave(self, flight: Flight) -> None:
        del self._flights[flight.attempt]
        if self._newest.get((flight.model, flight.tenant)) is flight:
            del self._newest[flight.model, flight.tenant]

    def under_way(self, now_s: float) -> Mapping[str, int]:
        """About how many attempts of each model have not ended, of callers who report."""
        found: dict[str, int] = {}
        for flight in self._counted(now_s):
            found[flight.model] = found.get(flight.model, 0) + flight.stands_for * (
                not flight.ended
            )
        return found

    def due(self, now_s: float) -> Mapping[str, list[Due]]:
        """Of each model, the attempts that should have ended, in the order that they began."""
        found: dict[str, list[Due]] = {}
        for flight in self._counted(now_s):
            age_s = now_s - flight.began_s - self._callers[flight.tenant].lag_s - MARGIN_S
            if (
                age_s > LATE_MEDIANS * flight.expected_s
                and (known := _due(flight, age_s)) is not None
            ):
                found.setdefault(flight.model, []).append(known)
        return found

    def _counted(self, now_s: float) -> Iterator[Flight]:
        counted = {name for name, each in self._callers.items() if each.counts(now_s)}
        return (each for each in self._flights.values() if each.tenant in counted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """An attempt that should have ended: what it took, or has taken so far."""

    seen: Seen
    ended: bool


def _due(flight: Flight, age_s: float) -> Due | None:
    took_s = flight.latency_s if flight.ended else age_s
    if not took_s or not isfinite(took_s) or not flight.median_s > 0.0:
        return None
    ratio, began_s = log(took_s) - log(flight.median_s), flight.began_s
    seen = Seen(ended_s=began_s, started_s=began_s, log_ratio=ratio, tenant=flight.tenant)
    return Due(seen=seen, ended=flight.ended)


def _over(flight: Flight, now_s: float) -> bool:
    followed_s = max(FOLLOWED_S, FOLLOWED_MEDIANS * flight.expected_s)
    return now_s - flight.began_s > (followed_s if isfinite(followed_s) else FOLLOWED_S)
