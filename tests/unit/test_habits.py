"""Workers that come later: the price of those who are there, and the demand of days before."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from prometheus_client import CollectorRegistry

from router.errors import Infeasible
from router.ids import uuid7
from router.policy.policy import static_policy
from router.serving.budgets import Wallets
from router.serving.telemetry import Metrics, logger
from router.serving.threads import Threads
from router.slo import Slo
from router.store.costs import MemoryCosts
from router.store.memory import MemoryBudgets, MemoryLog, MemoryOutbox
from router.types import Query
from tests.kit.policies import catalog
from tests.kit.records import decision

MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)
STEP = timedelta(minutes=6)
TABLE, QUERY = static_policy(catalog(2)).table, Query(text="How deep?", input_tokens=100)
TENANT = UUID(int=7)
COST_USD = 0.01
SLO = Slo(name="chat", version=1, budget_usd_per_day=1.2)


class Day:
    """Workers over one store; half of what is wanted can be paid, at a price that fits."""

    def __init__(self) -> None:
        self.now, self.outbox, self.budgets = MIDNIGHT, MemoryOutbox(), MemoryBudgets()
        self.threads, self.runner = Threads(5.0, threads=1), asyncio.Runner()
        self.first = self.worker()

    def worker(self) -> Wallets:
        costs, metrics = MemoryCosts(MemoryLog(self.outbox)), Metrics(CollectorRegistry())
        return Wallets(self.budgets, costs, self.threads, metrics, logger(), clock=lambda: self.now)

    def multiplier(self, wallets: Wallets) -> float:
        """What a dollar counts for, after a turn in which the slo is in use."""
        self.runner.run(wallets.ready(TENANT, SLO, TABLE, QUERY))
        wallets.turn(self.now)
        held = wallets.held(TENANT, SLO)
        assert held is not None
        return held.cost_multiplier

    def go_on(self, until: datetime) -> float:
        """A decision every few minutes, logged and paid at once; the last multiplier."""
        multiplier = 1.0
        while self.now < until:
            multiplier = self.multiplier(self.first)
            decision_id = uuid7(self.now)
            conditions = {"cost_multiplier": multiplier} if multiplier > 1.0 else None
            self.outbox.put(
                decision(TENANT, decision_id=decision_id, slo_name="chat", conditions=conditions)
            )
            cost = COST_USD / multiplier**0.6
            with suppress(Infeasible):
                self.first.reserve_next(
                    TENANT, SLO, decision_id, 0, expected_usd=cost, most_usd=cost
                )
                self.first.spent(TENANT, decision_id, 0, cost)
            self.now += STEP
        return multiplier

    def close(self) -> None:
        self.threads.close()
        self.runner.close()


@pytest.fixture
def day() -> Iterator[Day]:
    day = Day()
    yield day
    day.close()


def test_a_worker_that_joins_in_the_middle_begins_at_the_others_price(day: Day) -> None:
    price = day.go_on(MIDNIGHT + timedelta(hours=14))
    assert price > 1.5
    assert day.multiplier(day.worker()) == pytest.approx(price, rel=0.1)


def test_a_worker_that_starts_on_the_second_day_knows_what_the_first_needed(day: Day) -> None:
    day.go_on(MIDNIGHT + timedelta(days=1, minutes=30))
    settled = day.multiplier(day.first)
    assert settled > 2.0
    assert day.multiplier(day.worker()) == pytest.approx(settled, rel=0.1)


def test_a_budget_that_begins_in_the_middle_does_not_count_what_was_before(day: Day) -> None:
    day.now = MIDNIGHT + timedelta(hours=18)
    price = day.go_on(MIDNIGHT + timedelta(hours=22))
    assert price == 1.0
