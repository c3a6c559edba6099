"""What the log tells of an slo's past hours: Postgres and the in-memory twin alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from router.ids import uuid7
from router.policy.demand import Hour
from router.store.costs import MOST_READ, Costs, MemoryCosts, PostgresCosts
from router.store.engine import DatabaseRole, connect
from router.store.memory import MemoryLog, MemoryOutbox
from router.store.seams import Record
from router.store.shipping import copy_into_logs
from router.store.tenants import PostgresTenants
from tests.kit.records import decision

NINE = datetime.now(UTC).replace(hour=9, minute=0, second=0, microsecond=0) - timedelta(days=1)
HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """A log that decisions can be brought into."""

    costs: Costs
    bring: Callable[[Sequence[Record]], object]
    tenant: UUID
    other: UUID

    def decided(self, *minutes: float, tenant: UUID | None = None, **columns: Any) -> None:
        whose = tenant or self.tenant
        ids = [uuid7(NINE + timedelta(minutes=each)) for each in minutes]
        row = {"slo_name": "chat", **columns}
        self.bring([decision(whose, decision_id=each, **row) for each in ids])

    def hours(self, until: datetime = NINE + 3 * HOUR) -> Sequence[Hour]:
        return self.costs.hours(self.tenant, "chat", NINE, until)


@pytest.fixture(params=["postgres", "memory"])
def past(request: pytest.FixtureRequest) -> Iterator[Past]:
    if request.param == "memory":
        outbox = MemoryOutbox()
        yield Past(
            costs=MemoryCosts(MemoryLog(outbox)),
            bring=outbox.put_many,
            tenant=uuid4(),
            other=uuid4(),
        )
        return
    dsn = request.getfixturevalue("dsn")
    admin = connect(dsn, role=DatabaseRole.ADMIN)
    router = connect(dsn, role=DatabaseRole.ROUTER)
    tenants = PostgresTenants(admin)

    def bring(records: Sequence[Record]) -> None:
        with psycopg.connect(dsn, options="-c role=leadline_shipper") as connection:
            copy_into_logs(connection, [(each.kind.value, each.row.decode()) for each in records])

    yield Past(
        costs=PostgresCosts(router),
        bring=bring,
        tenant=tenants.create("acme", actor="test").tenant_id,
        other=tenants.create("other", actor="test").tenant_id,
    )
    router.dispose()
    admin.dispose()


def test_an_hour_has_its_decisions_and_an_hour_without_any_is_left_out(past: Past) -> None:
    past.decided(0.5, 59.5, 120.5)
    found = past.hours()
    assert [(each.starts_at, each.decisions) for each in found] == [
        (NINE, 2.0),
        (NINE + 2 * HOUR, 1.0),
    ]


def test_the_mean_log_multiplier_is_that_of_all_decisions_of_the_hour(past: Past) -> None:
    past.decided(1.0)
    past.decided(20.0, 40.0, conditions={"cost_multiplier": math.exp(0.9)})
    (hour,) = past.hours()
    assert hour.log_multiplier == pytest.approx(0.6)


def test_other_tenants_other_slos_and_later_decisions_are_not_counted(past: Past) -> None:
    past.decided(10.0)
    past.decided(10.0, tenant=past.other)
    past.decided(10.0, slo_name="batch")
    past.decided(30.0)
    (hour,) = past.hours(until=NINE + timedelta(minutes=20))
    assert hour.decisions == 1.0


def test_days_are_read_to_their_end(past: Past) -> None:
    past.decided(-1_500.0, -1_400.0, 10.0)
    found = past.costs.hours(past.tenant, "chat", NINE - 26 * HOUR, NINE + HOUR)
    assert [each.starts_at for each in found] == [NINE - 25 * HOUR, NINE - 24 * HOUR, NINE]


def test_of_a_crowded_quarter_the_rest_is_taken_to_go_on_as_it_began(past: Past) -> None:
    count = 2 * MOST_READ
    past.decided(*(15.0 * place / count for place in range(count)))
    (hour,) = past.hours()
    assert hour.decisions == pytest.approx(count, rel=0.02)
