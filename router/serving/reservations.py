"""What running attempts may cost at most, until it is known what they did cost."""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from router.errors import Infeasible
from router.policy.demand import EVEN, Demand
from router.policy.pacing import Pace, Purse
from router.slo import Slo

TIMEOUT_S = 600.0
"""An attempt whose cost is unknown for so long counts as it was predicted."""

MOST_OPEN = MOST_CLOSED = 100_000
FIRST_ASK_S = 1.0
ARRIVED_S = 30.0

Key = tuple[UUID, UUID, int]
"""Tenant, decision, number of the attempt."""


def micro_usd(usd: float) -> int:
    """Dollars as whole millionths, rounded up but for the noise of floats."""
    return math.ceil(round(usd * 1e6, 3))


def cap_micro_usd(usd: float) -> int:
    """A cap in whole millionths, rounded down but for the noise of floats."""
    return math.floor(round(usd * 1e6, 3))


@dataclass(slots=True, kw_only=True)
class Account:
    """A worker's part in one period of one budget; whoever changes it holds the lock.

    `left_micro_usd` is what nobody has leased and `spent_micro_usd` what all have spent, by the
    last look. `expected_micro_usd` is what its attempts that run are predicted to cost.
    """

    period: str
    starts_at: datetime
    cap_micro_usd: int
    left_micro_usd: int
    purse: Purse = field(default_factory=Purse)
    pace: Pace = field(default_factory=Pace)
    demand: Demand = EVEN
    expected_micro_usd: int = 0
    open_count: int = 0
    looked_s: float = -math.inf
    spent_micro_usd: int = 0

    @property
    def known_micro_usd(self) -> int:
        """What all workers have spent by the last look, with what this one knows on top."""
        return self.spent_micro_usd + self.purse.spent_micro_usd + self.expected_micro_usd

    @property
    def spent_share(self) -> float:
        """The share of the cap that all workers have spent."""
        return self.known_micro_usd / max(self.cap_micro_usd, 1)

    @property
    def settled(self) -> bool:
        """Whether nothing is left to be told or given back."""
        return self.purse.free_micro_usd == 0 and self.purse.spent_micro_usd <= 0

    @property
    def usable_micro_usd(self) -> int:
        """What may be reserved now."""
        return max(self.purse.free_micro_usd, 0)

    def reserve(self, most_micro_usd: int) -> None:
        """Promises so much to an attempt. Raises Infeasible (BUDGET_EXHAUSTED)."""
        if not most_micro_usd:
            return
        purse = self.purse.reserve(most_micro_usd)
        if purse is None:
            raise Infeasible(
                f"what is left of this {self.period}'s budget went to other decisions meanwhile; "
                "try again",
                reason="BUDGET_EXHAUSTED",
            )
        self.purse = purse

    def under(self, cap_micro_usd: int) -> Account:
        """The account under another cap: itself, but another one where the cap is lower.

        What was leased under a higher cap, and comes back from attempts later, is not to be
        spent under a lower one before it is given back and leased anew.
        """
        left = self.left_micro_usd + cap_micro_usd - self.cap_micro_usd
        if cap_micro_usd < self.cap_micro_usd:
            return Account(
                period=self.period,
                starts_at=self.starts_at,
                cap_micro_usd=cap_micro_usd,
                left_micro_usd=max(left + self.purse.free_micro_usd, 0),
                pace=self.pace,
                demand=self.demand,
                spent_micro_usd=self.known_micro_usd,
            )
        self.cap_micro_usd, self.left_micro_usd = cap_micro_usd, left
        return self

    def settlement(self, spare_micro_usd: int) -> tuple[int, int]:
        """Takes out what is to be settled: what was spent, and what is given back.

        Spending that corrections made negative waits until more is spent.
        """
        purse = self.purse
        spent = max(purse.spent_micro_usd, 0)
        back = min(spare_micro_usd, purse.free_micro_usd)
        self.purse = replace(purse.settled(back), spent_micro_usd=min(purse.spent_micro_usd, 0))
        self.left_micro_usd = max(self.left_micro_usd + back, 0)
        self.spent_micro_usd += spent
        return spent, back

    def leased(self, asked_micro_usd: int, granted_micro_usd: int) -> None:
        """Takes in a lease; one that falls short was the last."""
        self.purse = self.purse.leased(granted_micro_usd)
        left = self.left_micro_usd - granted_micro_usd
        self.left_micro_usd = max(left, 0) if granted_micro_usd >= asked_micro_usd else 0


@dataclass(slots=True, kw_only=True)
class Reservation:
    """One attempt's part of its periods' purses; `cost_micro_usd` once that is known.

    `times` counts how often it was reserved: a retry of a request makes its decision again.
    An `unnamed` attempt is one that its caller began by itself, so that nothing was reserved.
    """

    key: Key
    slo: Slo
    accounts: Sequence[Account]
    most_micro_usd: int
    expected_micro_usd: int
    since_s: float
    cost_micro_usd: int | None = None
    told_s: float = -math.inf
    times: int = 1
    unnamed: bool = False

    def told(self, cost_micro_usd: int, now_s: float) -> None:
        """Counts what this worker's caller says that it cost."""
        self.book(cost_micro_usd)
        self.told_s = now_s

    def read(self, cost_micro_usd: int, now_s: float) -> None:
        """Counts what Postgres says, unless a caller's newer word may not have arrived there."""
        if now_s - self.told_s > ARRIVED_S:
            self.book(cost_micro_usd)

    def open(self) -> None:
        """Takes the most that it may cost out of what is free, everywhere or nowhere.

        Raises Infeasible (BUDGET_EXHAUSTED).
        """
        for place, account in enumerate(self.accounts):
            try:
                account.reserve(self.most_micro_usd)
            except Infeasible:
                for earlier in self.accounts[:place]:
                    earlier.purse = earlier.purse.spend(self.most_micro_usd, 0)
                raise
        for account in self.accounts:
            account.expected_micro_usd += self.expected_micro_usd
            account.open_count += 1

    def book(self, cost_micro_usd: int) -> None:
        """Puts the cost in the reservation's place; another time, the difference."""
        before, reserved = self.cost_micro_usd, 0
        if before is None:
            before, reserved = 0, self.most_micro_usd
        for account in self.accounts:
            account.purse = account.purse.spend(reserved, cost_micro_usd - before)
            if self.cost_micro_usd is None:
                account.expected_micro_usd -= self.expected_micro_usd
        self.cost_micro_usd = cost_micro_usd

    def close(self) -> None:
        """Ends it; without a known cost it counts as predicted."""
        if self.cost_micro_usd is None:
            self.book(self.expected_micro_usd)
        for account in self.accounts:
            account.open_count -= 1


class Reservations:
    """The reservations of one worker, each with the time when to ask for its cost next.

    One is asked for after a second, then ever less often, and a last time after TIMEOUT_S; one
    whose cost is known, only that last time. Not thread-safe.
    """

    def __init__(self) -> None:
        self._open: dict[Key, Reservation] = {}
        self._closed: OrderedDict[Key, Reservation] = OrderedDict()
        self._due: list[tuple[float, Key]] = []

    def __len__(self) -> int:
        return len(self._open)

    @property
    def crowded(self) -> bool:
        """Whether there are more than can be kept, so that they are to end early."""
        return len(self._open) > MOST_OPEN

    def get(self, key: Key) -> Reservation | None:
        """The attempt's reservation, None when it has none any more."""
        return self._open.get(key)

    def ended(self, key: Key) -> Reservation | None:
        """The attempt's reservation that was closed, if that was not long ago."""
        return self._closed.get(key)

    def first(self, key: Key) -> Reservation | None:
        """The reservation of the decision's first attempt, open or ended."""
        first = (*key[:2], 0)
        return self._open.get(first) or self._closed.get(first)

    def reopen(
        self, key: Key, ended: Reservation, accounts: Sequence[Account], now_s: float
    ) -> Reservation:
        """Opens what has counted already, so that a correction counts in these accounts."""
        return self._unreserved(replace(ended, key=key, accounts=accounts, since_s=now_s))

    def open_unnamed(
        self, key: Key, first: Reservation, accounts: Sequence[Account], now_s: float
    ) -> Reservation:
        """Opens what its caller began by itself after the first attempt."""
        return self._unreserved(
            replace(
                first,
                key=key,
                accounts=accounts,
                since_s=now_s,
                cost_micro_usd=None,
                told_s=-math.inf,
                unnamed=True,
            )
        )

    def _unreserved(self, reservation: Reservation) -> Reservation:
        reservation.most_micro_usd = reservation.expected_micro_usd = 0
        self.open(reservation)
        return reservation

    def open(self, reservation: Reservation) -> None:
        """Adds it and reserves."""
        reservation.open()
        self._open[reservation.key] = reservation
        self._wait(reservation, reservation.since_s + FIRST_ASK_S)

    def close(self, reservation: Reservation) -> None:
        """Ends and forgets it."""
        if self._open.pop(reservation.key, None) is reservation:
            reservation.close()
            self._closed[reservation.key] = reservation
            if len(self._closed) > MOST_CLOSED:
                self._closed.popitem(last=False)

    def due(self, now_s: float, most: int) -> Iterator[Reservation]:
        """Takes those whose cost is to be asked for; hand each to `wait` or `close`."""
        taken = 0
        while self._due and taken < most and (self._due[0][0] <= now_s or self.crowded):
            reservation = self._open.get(heapq.heappop(self._due)[1])
            if reservation is not None:
                taken += 1
                yield reservation

    def wait(self, reservation: Reservation, now_s: float) -> None:
        """Asks again in a while."""
        ends_s = reservation.since_s + TIMEOUT_S
        again_s = 2.0 * now_s - reservation.since_s
        known = reservation.cost_micro_usd is not None
        self._wait(reservation, max(ends_s if known else min(again_s, ends_s), now_s + 1.0))

    def _wait(self, reservation: Reservation, at_s: float) -> None:
        heapq.heappush(self._due, (at_s, reservation.key))
