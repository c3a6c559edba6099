"""A day of bursty traffic in simulated time: workers that lease one budget and pace it.

`python -m tests.promises.pacing` prints each case.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

import numpy as np

from router.policy.pacing import (
    EVEN,
    Demand,
    Pace,
    Purse,
    ask_micro_usd,
    cost_multiplier,
    elapsed_share,
    spare_micro_usd,
)
from router.store.memory import MemoryBudgets
from router.store.promise_seams import Budgets
from tests.promises.bursts import (
    DAY_S,
    MICRO,
    MOST_OVER_EXPECTED,
    QUERIES,
    VALUE_USD,
    WORKERS,
    Traffic,
    bursty,
    in_hindsight,
    unbounded_usd,
)

LOOK_S = 10
START = datetime(2026, 3, 2, tzinfo=UTC)
TENANT, SLO = UUID(int=1), "chat"


@dataclass(slots=True, kw_only=True)
class Worker:
    """One worker: its purse, its pace, and the attempts that it waits for."""

    budgets: Budgets
    budget_micro_usd: int
    paced: bool
    demand: Demand
    look_s: int = LOOK_S
    purse: Purse = field(default_factory=Purse)
    pace: Pace = field(default_factory=Pace)
    per_s_micro_usd: float = 0.0
    left_micro_usd: int = 0
    running: list[tuple[float, int, int]] = field(default_factory=list)

    def tick(self, now: datetime, second: float) -> None:
        """Reports what was spent, gives back or leases, and looks at the pace."""
        recent = self.purse.spent_micro_usd / self.look_s
        self.per_s_micro_usd += 0.2 * (recent - self.per_s_micro_usd)
        self.finish(second)
        spare = spare_micro_usd(
            self.purse,
            left_micro_usd=self.left_micro_usd,
            per_s_micro_usd=self.per_s_micro_usd,
        )
        self._settle(spare)
        self.lease(0)
        committed = self.budget_micro_usd - self.left_micro_usd
        if self.paced:
            self.pace = self.pace.look(
                budget_micro_usd=self.budget_micro_usd,
                spent_micro_usd=committed - self.purse.free_micro_usd,
                elapsed=elapsed_share("day", now),
                demand=self.demand,
            )

    def lease(self, need_micro_usd: int) -> None:
        """Takes a lease where it holds too little."""
        ask = partial(ask_micro_usd, self.purse, per_s_micro_usd=self.per_s_micro_usd)
        asked = ask(left_micro_usd=self.left_micro_usd, need_micro_usd=need_micro_usd)
        if not asked:
            return
        granted = self.budgets.lease(
            TENANT,
            SLO,
            "day",
            START,
            cap_micro_usd=self.budget_micro_usd,
            ask_micro_usd=asked,
        )
        self.purse = self.purse.leased(granted)
        self.left_micro_usd = max(self.left_micro_usd - granted, 0)

    def _settle(self, spare: int) -> None:
        self.budgets.settle(
            TENANT,
            SLO,
            "day",
            START,
            spent_micro_usd=self.purse.spent_micro_usd,
            give_back_micro_usd=spare,
        )
        self.purse = self.purse.settled(spare)
        record = self.budgets.spent(TENANT, START)[0]
        self.left_micro_usd = max(self.budget_micro_usd - record.leased_micro_usd, 0)

    def answer(self, traffic: Traffic, query: int) -> int | None:
        """The arm that the query gets, None where not even the cheapest can be paid."""
        expected = traffic.expected_usd[query]
        most = np.ceil(expected * MOST_OVER_EXPECTED * MICRO)
        price = cost_multiplier((self.pace,))
        worth = VALUE_USD * traffic.accuracy[query] - price * expected
        best = int(worth.argmax())
        if most[best] > self.purse.free_micro_usd:
            self.lease(int(most[best]))
        payable = most <= self.purse.free_micro_usd
        if not payable.any():
            return None
        arm = int(np.where(payable, worth, -np.inf).argmax())
        reserved = self.purse.reserve(int(most[arm]))
        assert reserved is not None
        self.purse = reserved
        cost = int(np.ceil(traffic.cost_usd[query, arm] * MICRO))
        ends = traffic.second[query] + traffic.took_s[query]
        heapq.heappush(self.running, (float(ends), int(most[arm]), cost))
        return arm

    def finish(self, second: float) -> None:
        """Books the attempts that have ended by now."""
        while self.running and self.running[0][0] <= second:
            _, reserved, cost = heapq.heappop(self.running)
            self.purse = self.purse.spend(reserved, cost)


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """How a day ended. `most_leased` is the highest share of the budget that was ever leased."""

    name: str
    accuracy: float
    spent: float
    most_leased: float
    unanswered: float
    paces: tuple[Pace, ...]

    def __str__(self) -> str:
        return (
            f"{self.name}: accuracy {self.accuracy:.4f}, spent {self.spent:.2%} of the budget "
            f"(leased at most {self.most_leased:.2%}), {self.unanswered:.1%} unanswered, "
            f"mean price {np.exp(np.mean([pace.mean_log_price for pace in self.paces])):.2f}"
        )


def spend_a_day(
    traffic: Traffic,
    budget_usd: float,
    *,
    name: str,
    paced: bool,
    demand: Demand = EVEN,
    paces: Sequence[Pace] = (Pace(),) * WORKERS,
    look_s: int = LOOK_S,
) -> Day:
    """The day on workers that share the budget, and pace it or stop where it ends."""
    budgets, budget = MemoryBudgets(), round(budget_usd * MICRO)
    worker = partial(
        Worker, budgets=budgets, budget_micro_usd=budget, paced=paced, demand=demand, look_s=look_s
    )
    workers = [worker(left_micro_usd=budget, pace=pace) for pace in paces]
    right = unanswered = next_look = highest = 0
    for query, second in enumerate(traffic.second):
        while next_look <= second:
            highest = max(highest, _look(workers, next_look))
            next_look += look_s
        mine = workers[int(traffic.worker[query])]
        mine.finish(second)
        arm = mine.answer(traffic, query)
        unanswered += arm is None
        right += arm is not None and bool(traffic.luck[query] < traffic.accuracy[query, arm])
    for late in range(next_look, DAY_S + 180, look_s):
        highest = max(highest, _look(workers, late))
    record = budgets.spent(TENANT, START)[0]
    return Day(
        name=name,
        accuracy=right / len(traffic.second),
        spent=record.spent_micro_usd / budget,
        most_leased=highest / budget,
        unanswered=unanswered / len(traffic.second),
        paces=tuple(each.pace for each in workers),
    )


def _look(workers: Sequence[Worker], second: int) -> int:
    """Lets every worker look at its budget; returns what is leased then."""
    now = START + timedelta(seconds=min(second, DAY_S - 1))
    for worker in workers:
        worker.tick(now, second)
    return workers[0].budgets.spent(TENANT, START)[0].leased_micro_usd


@dataclass(frozen=True, slots=True, kw_only=True)
class Days:
    """Two paced days in turn, the first with nothing known, and a hard stop on the second.

    `best` is the second day's accuracy at the best fixed price in hindsight.
    """

    share: float
    free_arm: bool
    first: Day
    second: Day
    hard_stop: Day
    best: float

    @property
    def capped(self) -> bool:
        """Whether no more than the budget was ever leased or spent."""
        days = (self.first, self.second, self.hard_stop)
        return all(max(day.spent, day.most_leased) <= 1.0 for day in days)

    def __str__(self) -> str:
        free = ", a free arm" if self.free_arm else ""
        days = "; ".join(map(str, (self.first, self.second, self.hard_stop)))
        return f"{self.share:.0%} of what is wanted{free}: {days}; in hindsight {self.best:.4f}"


def two_days(
    seed: int, share: float, *, free_arm: bool = False, queries: int = QUERIES, look_s: int = LOOK_S
) -> Days:
    """Days whose budget is this share of what the second would cost without one.

    The second begins at the first's mean price and expects its demand by the hour.
    """
    before = bursty(seed + 1_000, free_arm=free_arm, queries=queries)
    traffic = bursty(seed, free_arm=free_arm, queries=queries)
    budget = share * unbounded_usd(traffic)
    day = partial(spend_a_day, budget_usd=budget, look_s=look_s)
    first = day(before, name="first day", paced=True)
    second = day(
        traffic,
        name="second day",
        paced=True,
        demand=Demand.of(before.per_hour()),
        paces=[pace.next_period() for pace in first.paces],
    )
    return Days(
        share=share,
        free_arm=free_arm,
        first=first,
        second=second,
        hard_stop=day(traffic, name="hard stop", paced=False),
        best=in_hindsight(traffic, budget),
    )


CASES = ((0.25, False), (0.25, True), (0.5, True), (0.8, True), (1.2, True))


if __name__ == "__main__":
    for part, free in CASES:
        print(two_days(0, part, free_arm=free), flush=True)
