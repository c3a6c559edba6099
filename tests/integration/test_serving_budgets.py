"""A budget is kept to the cent by workers that share it through Postgres."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import grpc
import pytest

from router.ids import time_of, uuid7
from router.serving.reservations import micro_usd
from router.serving.rows import dump
from router.slo import Slo
from router.store.costs import MemoryCosts, PostgresCosts
from router.store.engine import DatabaseRole, connect
from router.store.memory import MemoryLog, MemoryOutbox
from router.store.outbox import SqliteOutbox
from router.store.seams import Kind, Record
from router.store.shipper import Shipper
from router.v1 import router_pb2 as pb
from tests.integration.test_serving import eventually, refused
from tests.kit.policies import catalog
from tests.kit.postgres import PostgresServer, rows
from tests.kit.server import Admin, ServerProcess, Stubs, serving

CAP_USD = 0.05
CALLERS = 6
NOW = datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Two workers, and the database in which the budget is shared."""

    server: ServerProcess
    dsn: str


@pytest.fixture
def place(cluster: PostgresServer, tmp_path: Path) -> Iterator[Place]:
    with cluster.database() as dsn, Admin(dsn) as admin:
        admin.seed(catalog(2), "default")
        tenant = admin.tenants.identify("default")
        assert tenant is not None
        slo = Slo(name="chat", accuracy_value_usd=0.01, budget_usd_per_month=CAP_USD)
        admin.slos.put(tenant.tenant_id, slo, base_version=None, actor="test")
        with serving(tmp_path, dsn, workers="2") as server:
            yield Place(server=server, dsn=dsn)


def spend(address: str) -> list[float]:
    """Asks and reports, some on other connections, until the budget was used up for 3 s."""
    costs: list[float] = []
    ends = time.monotonic() + 3.0
    while time.monotonic() < ends:
        with Stubs(address) as asking, Stubs(address) as other:
            try:
                reply = asking.router.Route(pb.RouteRequest(text="What is 3 + 4?", slo="chat"))
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
                time.sleep(0.1)
                continue
            cost_usd = reply.chosen.cost_usd
            told = pb.ReportOutcomeRequest(decision_id=reply.decision_id, cost_usd=cost_usd)
            telling = other if len(costs) % 4 == 0 else asking
            telling.router.ReportOutcome(told)
        costs.append(cost_usd)
        ends = time.monotonic() + 3.0
    return costs


def test_workers_that_share_a_budget_never_spend_more_and_count_each_outcome_once(
    place: Place,
) -> None:
    with ThreadPoolExecutor(CALLERS) as pool:
        costs = list(pool.map(spend, [place.server.address] * CALLERS))
    told = sum(micro_usd(cost) for each in costs for cost in each)
    assert 0.9 * CAP_USD < told / 1e6 <= CAP_USD
    eventually(lambda: rows(place.dsn, "select spent_micro_usd from budgets") == [(told,)])
    route = pb.RouteRequest(text="What is 3 + 4?", slo="chat")
    with Stubs(place.server.address) as stubs:
        found = refused(lambda: stubs.router.Route(route))
    assert found == ("RESOURCE_EXHAUSTED", "BUDGET_EXHAUSTED", "")
    place.server.stop()
    counts = "select spent_micro_usd, leased_micro_usd from budgets"
    assert rows(place.dsn, counts) == [(told, told)]


def test_postgres_knows_the_last_word_on_each_cost_as_the_twin_does(
    dsn: str, tmp_path: Path
) -> None:
    with Admin(dsn) as admin:
        tenant_id = admin.tenants.create("acme", actor="test").tenant_id
    decision, other, named = uuid7(NOW), uuid7(NOW), uuid7(NOW)
    told = [
        outcome(tenant_id, decision, 0, 0.5, minute=1),
        outcome(tenant_id, decision, 0, 0.25, minute=2),
        outcome(tenant_id, decision, 0, None, minute=3),
        outcome(tenant_id, decision, 1, None, minute=1),
        outcome(tenant_id, decision, 2, 0.5, minute=1),
        outcome(tenant_id, named, 1, 0.5, minute=1),
        outcome(tenant_id, named, 2, 0.5, minute=1),
        evidence(tenant_id, named, 0, 0.1, next_arm="m0:single"),
        evidence(tenant_id, decision, 0, 0.7),
        evidence(tenant_id, decision, 1, 0.125),
    ]
    engine = connect(dsn, role=DatabaseRole.ROUTER)
    twin, outbox = MemoryOutbox(), SqliteOutbox(tmp_path / "outbox-0.sqlite3", max_bytes=1 << 20)
    for record in told:
        twin.put(record)
        outbox.put(record)
    shipper = Shipper(tmp_path, dsn)
    assert shipper.drain(20.0)
    shipper.close()
    outbox.close()
    asked = [(decision, 0), (decision, 1), (decision, 3), (other, 0)]
    for costs in (PostgresCosts(engine), MemoryCosts(MemoryLog(twin))):
        assert costs.known(tenant_id, asked) == {(decision, 0): 0.25, (decision, 1): 0.125}
        assert costs.known(UUID(int=1), asked) == {}
        assert costs.known(tenant_id, ()) == {}
        unnamed = costs.unnamed(tenant_id, {decision, other, named})
        assert unnamed == {(decision, 2): 0.5, (named, 2): 0.5}
        assert costs.unnamed(UUID(int=1), {decision}) == costs.unnamed(tenant_id, ()) == {}
    engine.dispose()


def outcome(
    tenant_id: UUID, decision_id: UUID, attempt: int, cost_usd: float | None, *, minute: int
) -> Record:
    return record(
        Kind.OUTCOME,
        tenant_id,
        "outcome_id",
        decision_id=decision_id,
        decided_at=time_of(decision_id),
        occurred_at=NOW + timedelta(minutes=minute),
        attempt=attempt,
        cost_usd=cost_usd,
        source="test",
    )


def evidence(
    tenant_id: UUID,
    decision_id: UUID,
    attempt: int,
    cost_usd: float,
    next_arm: str | None = None,
) -> Record:
    return record(
        Kind.ATTEMPT,
        tenant_id,
        "attempt_id",
        decision_id=decision_id,
        decided_at=time_of(decision_id),
        occurred_at=NOW,
        attempt=attempt,
        arm="m0:single",
        model="m0",
        strategy="single",
        params={},
        propensity=1.0,
        evidence={"cost_usd": cost_usd},
        keep=next_arm is None,
        next_arm=next_arm,
    )


def record(kind: Kind, tenant_id: UUID, key: str, **columns: object) -> Record:
    row_id = uuid7(NOW)
    row = {"tenant_id": tenant_id, key: row_id, **columns}
    return Record(
        kind=kind, tenant_id=tenant_id, key=row_id, row_id=row_id, digest=b"", row=dump(row)
    )
