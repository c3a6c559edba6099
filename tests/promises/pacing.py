"""A day of bursty traffic in simulated time: serving's own wallets, over one budget.

`python -m tests.promises.pacing` prints each case.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

import numpy as np
from prometheus_client import CollectorRegistry

from router.ids import uuid7
from router.policy.demand import Hour
from router.policy.periods import periods
from router.policy.policy import static_policy
from router.serving.budgets import Wallets
from router.serving.telemetry import Metrics, logger
from router.serving.threads import Threads
from router.slo import Slo
from router.store.costs import MemoryCosts
from router.store.memory import MemoryBudgets, MemoryLog, MemoryOutbox
from router.types import Arm, Catalog, Model, Query
from tests.promises.bursts import (
    DAY_S,
    LIST_USD,
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
TENANT, QUERY = UUID(int=1), Query(text="", input_tokens=512)


def _catalog() -> Catalog:
    """One arm per price of the list, whose answer may cost a few times that."""
    models = tuple(
        Model(
            name=f"m{place}",
            tier=place,
            input_usd_per_mtok=0.0,
            output_usd_per_mtok=float(usd * MOST_OVER_EXPECTED * 1e3),
            max_output_tokens=1_000,
        )
        for place, usd in enumerate(LIST_USD)
    )
    return Catalog(models=models, arms=tuple(Arm(model=m.name, strategy="single") for m in models))


TABLE = static_policy(_catalog()).table


class Told(MemoryCosts):
    """Costs that callers tell workers, and the hours of decisions, counted as they are made."""

    def __init__(self) -> None:
        super().__init__(MemoryLog(MemoryOutbox()))
        self._made: dict[datetime, list[float]] = {}

    def made(self, at: datetime, log_multiplier: float) -> None:
        """Counts a decision."""
        self._made.setdefault(periods(at)["hour"], []).append(log_multiplier)

    def hours(
        self,
        tenant_id: UUID,  # noqa: ARG002
        slo_name: str,  # noqa: ARG002
        since: datetime,
        until: datetime,
    ) -> Sequence[Hour]:
        """As the seam says, of the only slo there is."""
        return [
            Hour(starts_at=at, decisions=len(logs), log_multiplier=sum(logs) / len(logs))
            for at, logs in self._made.items()
            if since <= at < until
        ]


class Fleet:
    """Workers over one store, with a clock that moves by hand."""

    def __init__(self, *, paced: bool, look_s: int) -> None:
        self.now, self._paced, self._look_s = START, paced, look_s
        self._next, self.day, self.highest = START, START, 0
        self.budgets, self.told = MemoryBudgets(), Told()
        self._threads = Threads(5.0, threads=1)
        self._running: list[tuple[datetime, int, UUID, float]] = []
        self.workers = [self._worker() for _ in range(WORKERS)]

    def _worker(self) -> Wallets:
        metrics = Metrics(CollectorRegistry())
        return Wallets(
            self.budgets, self.told, self._threads, metrics, logger(), clock=lambda: self.now
        )

    def close(self) -> None:
        """Ends the thread that leases."""
        self._threads.close()

    def wait_until(self, when: datetime) -> None:
        """Lets time pass: attempts end, and every worker takes its turns."""
        while self._next <= when:
            self._finish(self._next)
            self._note_leased()
            for worker in self.workers:
                worker.turn(self.now)
            self._next += timedelta(seconds=self._look_s)
        self._finish(when)

    def _note_leased(self) -> None:
        for each in self.budgets.spent(TENANT, self.day):
            self.highest = max(self.highest, each.leased_micro_usd)

    def _finish(self, when: datetime) -> None:
        while self._running and self._running[0][0] <= when:
            ended, worker, decision_id, cost_usd = heapq.heappop(self._running)
            self.now = max(self.now, ended)
            self.workers[worker].spent(TENANT, decision_id, 0, cost_usd)
        self.now = max(self.now, when)

    def price(self, slo: Slo, worker: int = 0) -> float:
        """What a dollar counts for at a worker."""
        held = self.workers[worker].held(TENANT, slo)
        return held.cost_multiplier if held is not None and self._paced else 1.0

    async def answer(self, slo: Slo, traffic: Traffic, query: int) -> int | None:
        """The arm that the query gets, None where not even the cheapest can be paid."""
        place = int(traffic.worker[query])
        worker, expected = self.workers[place], traffic.expected_usd[query]
        await worker.ready(TENANT, slo, TABLE, QUERY)
        held = worker.held(TENANT, slo)
        assert held is not None
        most = expected * MOST_OVER_EXPECTED
        payable = np.ceil(most * MICRO) <= round(held.left_usd * MICRO)
        if not payable.any():
            return None
        worth = VALUE_USD * traffic.accuracy[query] - self.price(slo, place) * expected
        self.told.made(self.now, math.log(held.cost_multiplier))
        arm = int(np.where(payable, worth, -np.inf).argmax())
        decision_id = uuid7(self.now)
        worker.reserve_next(
            TENANT,
            slo,
            decision_id,
            0,
            expected_usd=float(expected[arm]),
            most_usd=float(most[arm]),
        )
        ends = self.now + timedelta(seconds=float(traffic.took_s[query]))
        cost_usd = float(traffic.cost_usd[query, arm])
        heapq.heappush(self._running, (ends, place, decision_id, cost_usd))
        return arm


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """How a day ended, by what its attempts did cost, and by what workers said that they did.

    `most_leased` is the highest share of the budget that was ever leased.
    """

    name: str
    accuracy: float
    spent: float
    settled: float
    most_leased: float
    unanswered: float
    price: float

    def __str__(self) -> str:
        return (
            f"{self.name}: accuracy {self.accuracy:.4f}, spent {self.spent:.2%} of the budget "
            f"(leased at most {self.most_leased:.2%}), {self.unanswered:.1%} unanswered, "
            f"mean price {self.price:.2f}"
        )


async def _spend(fleet: Fleet, slo: Slo, traffic: Traffic, start: datetime, name: str) -> Day:
    right, unanswered, spent_usd, prices = 0, 0, 0.0, []
    fleet.day, fleet.highest = start, 0
    for query, second in enumerate(traffic.second):
        fleet.wait_until(start + timedelta(seconds=float(second)))
        arm = await fleet.answer(slo, traffic, query)
        unanswered += arm is None
        if arm is not None:
            right += bool(traffic.luck[query] < traffic.accuracy[query, arm])
            spent_usd += float(traffic.cost_usd[query, arm])
        prices.append(fleet.price(slo))
    fleet.wait_until(start + timedelta(seconds=DAY_S + 180))
    records = {each.starts_at: each for each in fleet.budgets.spent(TENANT, start)}
    budget = slo.budgets_usd["day"] * MICRO
    return Day(
        name=name,
        accuracy=right / len(traffic.second),
        spent=spent_usd * MICRO / budget,
        settled=records[start].spent_micro_usd / budget,
        most_leased=fleet.highest / budget,
        unanswered=unanswered / len(traffic.second),
        price=float(np.exp(np.mean(np.log(prices)))),
    )


def spend_days(
    days: Mapping[str, Traffic], budget_usd: float, *, paced: bool, look_s: int = LOOK_S
) -> list[Day]:
    """Days in turn on workers that share a daily budget, and pace it or stop where it ends."""
    fleet = Fleet(paced=paced, look_s=look_s)
    slo = Slo(name="chat", version=1, budget_usd_per_day=budget_usd)

    async def spend() -> list[Day]:
        starts = [START + timedelta(days=day) for day in range(len(days))]
        named = zip(days.items(), starts, strict=True)
        return [await _spend(fleet, slo, each, start, name) for (name, each), start in named]

    try:
        return asyncio.run(spend())
    finally:
        fleet.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Days:
    """Two paced days in turn, the first with nothing known, and a hard stop on the second.

    Of the second, the workers know what the first one's hours tell. `best` is its accuracy at
    the best fixed price in hindsight.
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
        return all(max(day.spent, day.settled, day.most_leased) <= 1.0 for day in days)

    def __str__(self) -> str:
        free = ", a free arm" if self.free_arm else ""
        days = "; ".join(map(str, (self.first, self.second, self.hard_stop)))
        return f"{self.share:.0%} of what is wanted{free}: {days}; in hindsight {self.best:.4f}"


def two_days(
    seed: int, share: float, *, free_arm: bool = False, queries: int = QUERIES, look_s: int = LOOK_S
) -> Days:
    """Days whose budget is this share of what the second would cost without one."""
    before = bursty(seed + 1_000, free_arm=free_arm, queries=queries)
    traffic = bursty(seed, free_arm=free_arm, queries=queries)
    budget = share * unbounded_usd(traffic)
    spend = partial(spend_days, budget_usd=budget, look_s=look_s)
    first, second = spend({"first day": before, "second day": traffic}, paced=True)
    (hard_stop,) = spend({"hard stop": traffic}, paced=False)
    return Days(
        share=share,
        free_arm=free_arm,
        first=first,
        second=second,
        hard_stop=hard_stop,
        best=in_hindsight(traffic, budget),
    )


CASES = ((0.25, False), (0.25, True), (0.5, True), (0.8, True), (1.2, True))


if __name__ == "__main__":
    for part, free in CASES:
        print(two_days(0, part, free_arm=free), flush=True)
