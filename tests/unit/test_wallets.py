"""What workers hold of budgets: never above the cap, nothing counted twice, nothing forgotten."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from prometheus_client import CollectorRegistry

from router.conditions import Conditions
from router.errors import Infeasible, Unavailable
from router.ids import uuid7
from router.pipeline import decide
from router.policy.demand import Hour
from router.policy.periods import periods
from router.policy.policy import static_policy
from router.serving.budgets import Held, Wallets
from router.serving.reservations import TIMEOUT_S, cap_micro_usd, micro_usd
from router.serving.rows import dump
from router.serving.telemetry import Metrics, logger
from router.serving.threads import Threads
from router.slo import Slo
from router.store.costs import Attempt, MemoryCosts
from router.store.memory import MemoryBudgets, MemoryLog, MemoryOutbox
from router.store.promise_seams import BudgetRecord
from router.store.seams import Kind, Record
from router.types import Bounds, Decision, Query
from tests.kit.policies import catalog

NOON = datetime(2026, 3, 2, 12, 20, tzinfo=UTC)
MONTH = datetime(2026, 3, 1, tzinfo=UTC)
POLICY = static_policy(catalog(2))
QUERY = Query(text="How deep is it?", input_tokens=100)
MOST = [micro_usd(float(usd)) for usd in POLICY.table.most_usd(QUERY.input_tokens)]
TENANT = UUID(int=7)


class Postgres:
    """Budgets and costs in memory that may be away; counts the calls."""

    def __init__(self, outbox: MemoryOutbox) -> None:
        self.budgets, self._costs = MemoryBudgets(), MemoryCosts(MemoryLog(outbox))
        self.away, self.calls = False, 0
        self.leasing, self.lets = threading.Event(), threading.Event()
        self.lets.set()

    def lease(self, *row: Any, cap_micro_usd: int, ask_micro_usd: int) -> int:
        self._reach()
        self.leasing.set()
        self.lets.wait(5.0)
        return self.budgets.lease(*row, cap_micro_usd=cap_micro_usd, ask_micro_usd=ask_micro_usd)

    def settle(self, *row: Any, spent_micro_usd: int, give_back_micro_usd: int) -> None:
        self._reach()
        self.budgets.settle(
            *row, spent_micro_usd=spent_micro_usd, give_back_micro_usd=give_back_micro_usd
        )

    def spent(self, tenant_id: UUID, since: datetime) -> Sequence[BudgetRecord]:
        self._reach()
        return self.budgets.spent(tenant_id, since)

    def known(self, tenant_id: UUID, asked: Sequence[Attempt]) -> Mapping[Attempt, float]:
        self._reach()
        return self._costs.known(tenant_id, asked)

    def unnamed(self, tenant_id: UUID, decision_ids: Collection[UUID]) -> Mapping[Attempt, float]:
        self._reach()
        return self._costs.unnamed(tenant_id, decision_ids)

    def hours(
        self, tenant_id: UUID, slo_name: str, since: datetime, until: datetime
    ) -> Sequence[Hour]:
        self._reach()
        return self._costs.hours(tenant_id, slo_name, since, until)

    def _reach(self) -> None:
        self.calls += 1
        if self.away:
            raise Unavailable("Postgres is away")


@dataclass(slots=True)
class Attempted:
    """An attempt of the periods it counts in: at most, and once that is known, what it cost."""

    decision_id: UUID
    since: datetime
    most: int
    cost: int | None = None

    @property
    def expected(self) -> int:
        return self.most // 2


class Fleet:
    """Workers over one store, with a clock that moves by hand; nobody's thread runs."""

    def __init__(self, workers: int = 3) -> None:
        self.now, self.outbox = NOON, MemoryOutbox()
        self.store = Postgres(self.outbox)
        self._threads, self._runner = Threads(5.0, threads=1), asyncio.Runner()
        self.workers = [self._worker() for _ in range(workers)]
        self.attempts: list[Attempted] = []

    def _worker(self) -> Wallets:
        return Wallets(
            self.store,
            self.store,
            self._threads,
            Metrics(CollectorRegistry()),
            logger(),
            clock=lambda: self.now,
        )

    def close(self) -> None:
        self._threads.close()
        self._runner.close()

    def kill(self, worker: int) -> None:
        self.workers[worker] = self._worker()

    def stop(self, worker: int) -> None:
        self.workers[worker].close()
        self.kill(worker)

    def turn(self, *workers: int) -> None:
        for worker in workers or range(len(self.workers)):
            self.workers[worker].turn(self.now)

    def wait(self, seconds: float, *, turns: bool = True) -> None:
        self.now += timedelta(seconds=seconds)
        if turns:
            self.turn()

    def held(self, worker: int, slo: Slo) -> Held:
        """What holds for a decision that is made now."""
        wallets = self.workers[worker]
        self._runner.run(wallets.ready(TENANT, slo, POLICY.table, QUERY))
        held = wallets.held(TENANT, slo)
        assert held is not None
        return held

    def decide(self, worker: int, slo: Slo, rank: float = 1.0) -> Attempted | None:
        """Attempts an arm of what is affordable, by its rank in price; None where none is."""
        try:
            left = self.held(worker, slo).left_usd
        except Unavailable:
            return None
        payable = sorted(most for most in MOST if most <= left * 1e6)
        if not payable:
            return None
        most = payable[round(rank * (len(payable) - 1))]
        made = Attempted(uuid7(self.now), self.now, most)
        assert self.workers[worker].reserve_next(
            TENANT, slo, made.decision_id, 0, expected_usd=made.expected / 1e6, most_usd=most / 1e6
        )
        self.attempts.append(made)
        return made

    def report(self, worker: int, made: Attempted, share: float) -> None:
        """What it cost becomes known to a worker, and soon after in the log."""
        made.cost = round(made.most * share)
        self.tell(worker, made, 0, made.cost)

    def tell(self, worker: int, made: Attempted, attempt: int, cost: int) -> None:
        """An outcome of one of the decision's attempts is reported to a worker."""
        outcome_id = uuid7(self.now)
        row = {
            "outcome_id": outcome_id,
            "occurred_at": self.now,
            "decision_id": made.decision_id,
            "attempt": attempt,
            "cost_usd": cost / 1e6,
        }
        self.outbox.put(
            Record(
                kind=Kind.OUTCOME,
                tenant_id=TENANT,
                key=outcome_id,
                row_id=outcome_id,
                digest=b"",
                row=dump(row),
            )
        )
        self.workers[worker].spent(TENANT, made.decision_id, attempt, cost / 1e6)

    def name_next(self, worker: int, made: Attempted, slo: Slo) -> None:
        """Continue names a second attempt to a worker."""
        row_id = uuid7(self.now)
        row = {"attempt_id": row_id, "decision_id": made.decision_id, "attempt": 0}
        self.outbox.put(
            Record(
                kind=Kind.ATTEMPT,
                tenant_id=TENANT,
                key=row_id,
                row_id=row_id,
                digest=b"",
                row=dump(row | {"next_arm": POLICY.table.keys[0]}),
            )
        )
        most_usd = MOST[0] / 1e6
        self.workers[worker].reserve_next(
            TENANT, slo, made.decision_id, 1, expected_usd=most_usd, most_usd=most_usd
        )

    def exposed(self) -> Counter[tuple[str, datetime]]:
        """Per period, what its attempts have cost, or may still cost at most."""
        total: Counter[tuple[str, datetime]] = Counter()
        for made in self.attempts:
            for place in periods(made.since).items():
                total[place] += made.most if made.cost is None else made.cost
        return total

    def records(self) -> dict[tuple[str, datetime], BudgetRecord]:
        return {
            (each.period, each.starts_at): each for each in self.store.budgets.spent(TENANT, MONTH)
        }


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    fleet = Fleet()
    yield fleet
    fleet.close()


def a_slo(usd: float, version: int = 1, **more: Any) -> Slo:
    return Slo(name="chat", version=version, budget_usd_per_hour=usd, **more)


class AnyInterleaving(RuleBasedStateMachine):
    """Workers, decisions, outcomes, kills and caps in any order."""

    worker, share = st.integers(0, 2), st.floats(0.0, 1.0)

    def __init__(self) -> None:
        super().__init__()
        self.fleet, self.slo = Fleet(), a_slo(0.2, budget_usd_per_day=0.3)
        self.highest: dict[tuple[str, datetime], int] = {}

    def teardown(self) -> None:
        self.fleet.close()

    @rule(worker=worker, rank=share, times=st.integers(1, 4))
    def decide(self, worker: int, rank: float, times: int) -> None:
        self._note_caps()
        for _ in range(times):
            if self.fleet.decide(worker, self.slo, rank) is not None:
                exposed = self.fleet.exposed()
                for period, cap in self._caps().items():
                    assert exposed[period] <= cap, "reserved above the cap of now"

    @rule(worker=worker, place=st.integers(0, 100), share=share)
    def report(self, worker: int, place: int, share: float) -> None:
        recent = [each for each in self.fleet.attempts if self._is_recent(each)]
        if recent:
            made = recent[place % len(recent)]
            known = 1.0 if made.cost is None else made.cost / made.most
            self.fleet.report(worker, made, min(share, known))

    @rule(seconds=st.sampled_from([0.4, 1.0, 6.0, 200.0, 700.0, 2_400.0]), turns=st.booleans())
    def wait(self, seconds: float, turns: bool) -> None:
        for made in self.fleet.attempts:
            if made.cost is None and self._is_recent(made) and seconds >= 200.0:
                made.cost = made.expected
        self.fleet.wait(seconds, turns=turns)

    @rule(worker=worker)
    def turn(self, worker: int) -> None:
        self.fleet.turn(worker)

    @rule(worker=worker)
    def kill(self, worker: int) -> None:
        self.fleet.kill(worker)

    @rule(worker=worker)
    def stop(self, worker: int) -> None:
        self.fleet.stop(worker)

    @rule(away=st.booleans())
    def reach(self, away: bool) -> None:
        self.fleet.store.away = away

    @rule(hour=st.floats(0.001, 0.4), more=st.floats(0.0, 0.3))
    def change_caps(self, hour: float, more: float) -> None:
        day = hour + more
        self.slo = a_slo(hour, self.slo.version + 1, budget_usd_per_day=day)

    @invariant()
    def never_above_the_cap(self) -> None:
        self._note_caps()
        exposed = self.fleet.exposed()
        for place, record in self.fleet.records().items():
            assert record.spent_micro_usd <= record.leased_micro_usd <= self.highest[place]
            assert exposed[place] <= record.leased_micro_usd

    def _is_recent(self, made: Attempted) -> bool:
        return (self.fleet.now - made.since).total_seconds() < TIMEOUT_S

    def _caps(self) -> dict[tuple[str, datetime], int]:
        starts = periods(self.fleet.now)
        return {
            (period, starts[period]): cap_micro_usd(usd)
            for period, usd in self.slo.budgets_usd.items()
        }

    def _note_caps(self) -> None:
        for place, cap in self._caps().items():
            self.highest[place] = max(cap, self.highest.get(place, 0))


AnyInterleaving.TestCase.settings = settings(max_examples=15, stateful_step_count=30, deadline=None)
TestAnyInterleaving = AnyInterleaving.TestCase


def test_each_cost_counts_once_whichever_worker_is_told(fleet: Fleet) -> None:
    slo = a_slo(5.0)
    for place in range(60):
        made = fleet.decide(place % 3, slo, 0.2)
        assert made is not None
        fleet.wait(0.2, turns=place % 5 == 0)
        if place % 4:
            for worker in range(place % 3 + 1):
                fleet.report((place + worker) % 3, made, 0.25)
    for _ in range(3):
        fleet.wait(TIMEOUT_S / 2)
    fleet.wait(10.0)
    told = sum(made.expected if made.cost is None else made.cost for made in fleet.attempts)
    record = fleet.records()["hour", periods(NOON)["hour"]]
    assert (record.spent_micro_usd, record.leased_micro_usd) == (told, told)


def test_a_later_correction_counts_the_difference(fleet: Fleet) -> None:
    slo = a_slo(5.0)
    made = fleet.decide(0, slo, 0.5)
    assert made is not None
    for share in (0.9, 0.9, 0.2, 0.6):
        fleet.report(0, made, share)
    fleet.stop(0)
    assert fleet.records()["hour", periods(NOON)["hour"]].spent_micro_usd == made.cost


@pytest.mark.parametrize("late_s", [1.0, 2 * TIMEOUT_S])
def test_what_a_caller_tries_by_itself_counts_whichever_worker_is_told(
    fleet: Fleet, late_s: float
) -> None:
    made = fleet.decide(0, a_slo(5.0), 0.5)
    assert made is not None
    fleet.report(0, made, 0.5)
    fleet.wait(late_s)
    for worker in (1, 0) if late_s > TIMEOUT_S else (1,):
        fleet.tell(worker, made, 1, made.most)
        fleet.tell(worker, made, 2, 7)
    for _ in range(3):
        fleet.wait(TIMEOUT_S / 2)
    assert fleet.records()["hour", periods(NOON)["hour"]].spent_micro_usd == (
        made.most // 2 + made.most + 7
    )


def test_an_attempt_that_another_workers_continue_named_is_not_counted_twice(fleet: Fleet) -> None:
    slo = a_slo(5.0)
    made = fleet.decide(0, slo, 0.5)
    assert made is not None
    fleet.held(1, slo)
    fleet.name_next(1, made, slo)
    fleet.report(0, made, 0.5)
    fleet.tell(0, made, 1, 9)
    for _ in range(4):
        fleet.wait(TIMEOUT_S / 2)
    assert fleet.records()["hour", periods(NOON)["hour"]].spent_micro_usd == made.most // 2 + 9


def test_a_cost_that_comes_late_counts_in_the_period_of_now(fleet: Fleet) -> None:
    slo = a_slo(5.0)
    made = fleet.decide(0, slo, 0.5)
    assert made is not None
    fleet.wait(3_600.0)
    fleet.wait(1.0)
    hour = periods(fleet.now)["hour"]
    for share in (0.75, 0.75):
        fleet.report(0, made, share)
        fleet.wait(1.0)
    records, known = fleet.records(), round(made.most * 0.75)
    assert records["hour", periods(NOON)["hour"]].spent_micro_usd == made.expected
    assert records["hour", hour].spent_micro_usd == known - made.expected


def test_a_budget_is_spent_down_to_less_than_its_cheapest_arm(fleet: Fleet) -> None:
    slo, unanswered = a_slo(0.1), 0
    while unanswered < 30:
        for worker in range(3):
            made = fleet.decide(worker, slo, 0.0)
            unanswered += made is None
            if made is not None:
                fleet.report((worker + 1) % 3, made, 0.7)
        fleet.wait(1.0)
    record = fleet.records()["hour", periods(NOON)["hour"]]
    assert micro_usd(0.1) - 3 * min(MOST) < record.spent_micro_usd <= micro_usd(0.1)


def test_a_budget_that_is_used_up_costs_no_query_per_request(fleet: Fleet) -> None:
    slo = a_slo(min(MOST) / 1e6)
    assert fleet.decide(0, slo) is not None
    assert fleet.decide(1, slo) is None
    before = fleet.store.calls
    for _ in range(100):
        assert fleet.decide(1, slo) is None
    assert fleet.store.calls == before


def test_without_postgres_a_worker_spends_what_it_holds_then_says_why_not(fleet: Fleet) -> None:
    slo = a_slo(1.0)
    held_usd = fleet.held(0, slo).left_usd
    fleet.store.away = True
    while (made := fleet.decide(0, slo, 0.0)) is not None:
        fleet.report(0, made, 1.0)
    assert held_usd - sum(made.most for made in fleet.attempts) / 1e6 < min(MOST) / 1e6
    with pytest.raises(Unavailable, match=r"'chat'.*Postgres is away"):
        fleet.held(0, slo)
    fleet.store.away = False
    fleet.wait(1.0)
    assert fleet.decide(0, slo, 0.0) is not None


def test_a_new_period_has_a_new_budget_and_does_not_begin_without_a_price(fleet: Fleet) -> None:
    slo = a_slo(0.05)
    while fleet.decide(0, slo) is not None:
        fleet.wait(1.0)
    price = fleet.held(0, slo).cost_multiplier
    assert price > 1.0
    fleet.wait(2_400.0, turns=False)
    held = fleet.held(0, slo)
    assert held.left_usd > 0.0
    assert 1.0 < held.cost_multiplier < price
    fleet.wait(1.0)
    assert fleet.records()["hour", periods(NOON)["hour"]].leased_micro_usd <= 50_000


def test_what_an_idle_worker_holds_goes_back(fleet: Fleet) -> None:
    slo = a_slo(1.0)
    assert fleet.held(0, slo).left_usd > 0.0
    fleet.wait(60.0)
    assert fleet.records()["hour", periods(NOON)["hour"]].leased_micro_usd == 0


def test_a_lower_cap_holds_for_what_was_leased_before(fleet: Fleet) -> None:
    assert fleet.held(0, a_slo(1.0)).left_usd > 0.05
    lower = a_slo(0.01, version=2)
    assert fleet.held(1, lower).left_usd == 0.0
    assert fleet.held(0, lower).left_usd <= 0.01


def test_what_comes_back_from_before_a_cap_was_lowered_is_not_spent_under_it(fleet: Fleet) -> None:
    made = fleet.decide(0, a_slo(1.0), 0.0)
    assert made is not None
    lower = a_slo(made.most / 2e6, version=2)
    assert fleet.decide(0, lower) is None
    fleet.report(0, made, 0.0)
    assert fleet.decide(0, lower) is None
    fleet.wait(1.0)
    assert fleet.records()["hour", periods(NOON)["hour"]].leased_micro_usd <= made.most / 2


def test_a_retry_that_was_logged_before_leaves_its_reservation(fleet: Fleet) -> None:
    slo = a_slo(1.0)
    held = fleet.held(0, slo)
    decision, wallets = decided(slo, held), fleet.workers[0]
    assert wallets.reserve(TENANT, decision, POLICY.table)
    reserved = wallets.held(TENANT, slo)
    assert reserved is not None
    assert reserved.left_usd < held.left_usd
    assert not wallets.reserve(TENANT, decision, POLICY.table)
    wallets.release(TENANT, decision.decision_id)
    assert wallets.held(TENANT, slo) == reserved
    wallets.release(TENANT, decision.decision_id)
    assert wallets.held(TENANT, slo) == held


def test_a_decision_comes_too_late_for_what_another_has_reserved(fleet: Fleet) -> None:
    slo = a_slo(min(MOST) / 1e6)
    held = fleet.held(0, slo)
    late = decided(slo, held)
    assert fleet.workers[0].reserve(TENANT, decided(slo, held), POLICY.table)
    with pytest.raises(Infeasible) as raised:
        fleet.workers[0].reserve(TENANT, late, POLICY.table)
    assert raised.value.reason == "BUDGET_EXHAUSTED"


def test_whoever_comes_while_a_lease_is_asked_for_gets_what_they_need_too(fleet: Fleet) -> None:
    slo, wallets, store = a_slo(50.0), fleet.workers[0], fleet.store
    store.lets.clear()

    async def come() -> None:
        early = asyncio.ensure_future(wallets.ready(TENANT, slo, POLICY.table, QUERY))
        assert await asyncio.to_thread(store.leasing.wait, 5.0)
        late = wallets.ready(TENANT, slo, POLICY.table, QUERY, decisions=5_000)
        asyncio.get_running_loop().call_later(0.01, store.lets.set)
        await asyncio.gather(early, late)

    asyncio.run(come())
    held = wallets.held(TENANT, slo)
    assert held is not None
    assert held.left_usd >= 5_000 * min(MOST) / 1e6


def test_an_slo_without_budgets_asks_nobody(fleet: Fleet) -> None:
    slo, wallets = Slo(name="free", version=1), fleet.workers[0]
    asyncio.run(wallets.ready(TENANT, slo, POLICY.table, QUERY))
    assert wallets.held(TENANT, slo) is None
    assert fleet.store.calls == 0


def decided(slo: Slo, held: Held) -> Decision:
    return decide(
        POLICY,
        QUERY,
        slo,
        Bounds(),
        decision_id=uuid7(NOON),
        now=NOON,
        conditions=Conditions(cost_multiplier=held.cost_multiplier, budget_left_usd=held.left_usd),
    )


def test_a_budget_of_less_than_a_millionth_of_a_dollar_is_used_up(fleet: Fleet) -> None:
    assert fleet.held(0, a_slo(1e-7)).left_usd == 0.0
    fleet.wait(1.0)
    assert all(not each.leased_micro_usd for each in fleet.records().values())
