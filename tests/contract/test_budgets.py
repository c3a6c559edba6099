"""What budgets promise: Postgres and the in-memory twin alike."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID, uuid4

import pytest

from router.errors import InvalidInput
from router.store.budgets import PostgresBudgets
from router.store.engine import DatabaseRole, connect
from router.store.memory import MemoryBudgets
from router.store.promise_seams import Budgets
from router.store.tenants import PostgresTenants

DAY = datetime(2026, 3, 1, tzinfo=UTC)
CAP = 1_000_003


@dataclass(frozen=True, slots=True, kw_only=True)
class Purse:
    """One day's budget of one slo."""

    budgets: Budgets
    tenant: UUID
    other: UUID
    name: str = "chat"
    period: str = "day"
    starts_at: datetime = field(default=DAY)

    def lease(self, ask: int, cap: int = CAP, tenant: UUID | None = None) -> int:
        return self.budgets.lease(
            tenant or self.tenant,
            self.name,
            self.period,
            self.starts_at,
            cap_micro_usd=cap,
            ask_micro_usd=ask,
        )

    def settle(self, spent: int, back: int = 0) -> None:
        self.budgets.settle(
            self.tenant,
            self.name,
            self.period,
            self.starts_at,
            spent_micro_usd=spent,
            give_back_micro_usd=back,
        )

    def counts(self) -> tuple[int, int]:
        (record,) = self.budgets.spent(self.tenant, DAY)
        return record.leased_micro_usd, record.spent_micro_usd


@pytest.fixture(params=["postgres", "memory"])
def purse(request: pytest.FixtureRequest) -> Iterator[Purse]:
    if request.param == "memory":
        yield Purse(budgets=MemoryBudgets(), tenant=uuid4(), other=uuid4())
        return
    dsn = request.getfixturevalue("dsn")
    admin = connect(dsn, role=DatabaseRole.ADMIN)
    router = connect(dsn, role=DatabaseRole.ROUTER, pool_size=8)
    tenants = PostgresTenants(admin)
    yield Purse(
        budgets=PostgresBudgets(router),
        tenant=tenants.create("acme", actor="test").tenant_id,
        other=tenants.create("other", actor="test").tenant_id,
    )
    router.dispose()
    admin.dispose()


class TestBudgets:
    def test_a_lease_is_what_was_asked_then_what_is_left_then_nothing(self, purse: Purse) -> None:
        assert [purse.lease(400_000) for _ in range(4)] == [400_000, 400_000, 200_003, 0]
        assert purse.counts() == (CAP, 0)

    def test_what_is_given_back_can_be_leased_again(self, purse: Purse) -> None:
        purse.lease(CAP)
        purse.settle(spent=600_000, back=CAP - 600_000)
        assert purse.counts() == (600_000, 600_000)
        assert purse.lease(CAP) == CAP - 600_000

    def test_giving_back_too_much_never_frees_what_was_spent(self, purse: Purse) -> None:
        purse.lease(CAP)
        purse.settle(spent=600_000, back=CAP)
        assert purse.lease(CAP) == CAP - 600_000

    def test_spending_beyond_a_lease_counts_against_the_cap(self, purse: Purse) -> None:
        purse.lease(400_000)
        purse.settle(spent=500_000, back=-100_000)
        assert purse.counts() == (500_000, 500_000)
        assert purse.lease(CAP) == CAP - 500_000
        purse.settle(spent=CAP, back=-CAP)
        assert purse.counts()[0] > CAP
        assert purse.lease(1) == 0

    def test_a_cap_may_move_in_the_middle_of_a_period(self, purse: Purse) -> None:
        assert purse.lease(500, cap=1_000) == 500
        assert purse.lease(500, cap=300) == 0
        assert purse.lease(500, cap=700) == 200
        assert purse.lease(500, cap=5_000) == 500
        assert purse.counts() == (1_200, 0)

    def test_nothing_is_leased_of_nothing(self, purse: Purse) -> None:
        assert purse.lease(5, cap=0) == 0
        assert purse.lease(0) == 0
        with pytest.raises(InvalidInput):
            purse.lease(-1)
        with pytest.raises(InvalidInput):
            purse.settle(-1)

    def test_spending_is_noted_even_where_nothing_was_leased(self, purse: Purse) -> None:
        purse.settle(spent=70, back=-70)
        assert purse.counts() == (70, 70)

    def test_no_tenant_leases_or_reads_anothers(self, purse: Purse) -> None:
        purse.lease(CAP)
        assert purse.budgets.spent(purse.other, DAY) == []
        assert purse.lease(CAP, tenant=purse.other) == CAP
        assert purse.counts() == (CAP, 0)

    def test_every_period_has_its_own_and_the_newest_comes_first(self, purse: Purse) -> None:
        later = DAY + timedelta(hours=1)
        for name, period, at in (
            ("chat", "hour", DAY),
            ("chat", "hour", later),
            ("chat", "day", DAY),
            ("batch", "day", DAY),
        ):
            asked = {"cap_micro_usd": 10, "ask_micro_usd": 10}
            assert purse.budgets.lease(purse.tenant, name, period, at, **asked) == 10
        found = purse.budgets.spent(purse.tenant, DAY)
        assert [(item.slo_name, item.period, item.starts_at) for item in found] == [
            ("chat", "hour", later),
            ("batch", "day", DAY),
            ("chat", "day", DAY),
            ("chat", "hour", DAY),
        ]
        assert len(purse.budgets.spent(purse.tenant, later)) == 1

    def test_workers_at_once_lease_the_cap_to_the_micro_dollar(self, purse: Purse) -> None:
        def work(seed: int) -> int:
            rng, kept = Random(seed), 0
            for _ in range(25):
                got = purse.lease(rng.randrange(1, 9_000))
                back = rng.randrange(got + 1) if rng.random() < 0.3 else 0
                purse.settle(got - back, back)
                kept += got - back
            return kept

        with ThreadPoolExecutor(8) as pool:
            kept = sum(pool.map(work, range(8)))
        assert purse.counts() == (kept, kept)
        assert kept <= CAP
        with ThreadPoolExecutor(8) as pool:
            rest = sum(pool.map(purse.lease, [CAP] * 8))
        assert kept + rest == CAP
