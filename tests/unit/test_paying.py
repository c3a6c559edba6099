"""Continue pays for the attempts that it names, and keeps the answer where it can't."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from prometheus_client import CollectorRegistry

from router.bundle.embedder import load_embedder
from router.bundle.loader import load_archive
from router.clients.values import OutcomeReport
from router.errors import LeadlineError
from router.loading import bind, learned
from router.serving.asked import WILLING, asked
from router.serving.budgets import Wallets
from router.serving.continuing import Continuing
from router.serving.decisions import Decisions
from router.serving.outcomes import Outcomes
from router.serving.routing import Routing
from router.serving.state import Current, State
from router.serving.telemetry import Metrics, logger
from router.serving.tenants import TenantDirectory
from router.serving.threads import Threads
from router.serving.wire import continued, reply
from router.slo import Slo
from router.store.costs import MemoryCosts
from router.store.memory import (
    MemoryBudgets,
    MemoryLog,
    MemoryOutbox,
    MemoryPromises,
    MemorySlos,
    MemoryTenants,
)
from router.types import Evidence, Identity, Query, Role
from router.v1 import router_pb2 as pb
from tests.kit.bundles import TRUSTED
from tests.kit.policies import catalog
from tests.kit.serving_bundles import bundle
from tests.kit.surroundings import surroundings

KEY = b"k" * 32
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
CALLER = Identity(tenant_id=uuid4(), tenant="acme", key_id="k", role=Role.CALLER)


class Worker:
    """One worker's parts of Route, Continue and ReportOutcome, with budgets."""

    def __init__(self, state: State, budget_usd: float) -> None:
        outbox, current = MemoryOutbox(), Current(state)
        self.table = state.policy.table
        self.threads, metrics, log = Threads(5.0), Metrics(CollectorRegistry()), MemoryLog(outbox)
        self.budgets, slos = MemoryBudgets(), MemorySlos()
        asked = Slo(name="chat", accuracy_value_usd=0.05, budget_usd_per_month=budget_usd)
        self.slo = slos.put(CALLER.tenant_id, asked, base_version=None, actor="test")
        self.wallets = Wallets(self.budgets, MemoryCosts(log), self.threads, metrics, logger())
        tenants = TenantDirectory(MemoryTenants(), slos, MemoryPromises(), self.threads)
        self.routing = Routing(
            current=current,
            outbox=outbox,
            key=KEY,
            metrics=metrics,
            max_query_bytes=1_000,
            exploration_rate=0.0,
            surroundings=surroundings(tenants, metrics, self.wallets),
        )
        decisions = Decisions(outbox, log, self.threads, KEY)
        self.continuing = Continuing(
            current=current,
            outbox=outbox,
            decisions=decisions,
            tenants=tenants,
            routing=self.routing,
            wallets=self.wallets,
        )
        self.outcomes = Outcomes(outbox, decisions, wallets=self.wallets)

    async def route(self) -> pb.RouteResponse:
        question = asked("Prove it.", slo="chat", bounds=WILLING)
        waiting = self.routing.take(question, CALLER, {"chat": self.slo})
        await self.routing.ready(waiting)
        (row,) = self.routing.answer([waiting])
        assert not isinstance(row, LeadlineError)
        return reply(row, {})

    async def go_on(self, decision_id: str, attempt: int) -> pb.ContinueResponse:
        evidence = Evidence(confidence=0.0, cost_usd=1e-4, output_tokens=7)
        row = await self.continuing.go_on(UUID(decision_id), attempt, evidence, CALLER)
        return continued(row, {})

    def reserved_usd(self) -> float:
        """What attempts that run may still cost, by what is leased and not spent."""
        held = self.wallets.held(CALLER.tenant_id, self.slo)
        assert held is not None
        (record,) = self.budgets.spent(CALLER.tenant_id, LONG_AGO)
        return record.leased_micro_usd / 1e6 - held.left_usd


@pytest.fixture(scope="module")
def state() -> State:
    archive = load_archive(bundle(catalog()), trusted=TRUSTED, probe=False)
    return State.of(bind(learned(archive, load_embedder()), catalog(), 1), catalog())


@pytest.fixture
def rich(state: State) -> Iterator[Worker]:
    worker = Worker(state, 100.0)
    yield worker
    worker.threads.close()


def test_what_continue_names_is_reserved_and_what_is_reported_takes_its_place(
    rich: Worker,
) -> None:
    async def walk() -> None:
        first = await rich.route()
        reserved_usd = rich.reserved_usd()
        assert reserved_usd > first.chosen.cost_usd
        step = await rich.go_on(first.decision_id, 0)
        assert not step.keep
        assert await rich.go_on(first.decision_id, 0) == step
        spent_usd = 1e-4
        assert rich.reserved_usd() - spent_usd > step.next.cost_usd
        told = OutcomeReport(decision_id=first.decision_id, attempt=1, cost_usd=2e-4)
        for _ in range(2):
            rich.outcomes.report(told, CALLER)
        assert rich.reserved_usd() == pytest.approx(spent_usd + 2e-4, abs=1e-9)

    asyncio.run(walk())


def test_where_a_next_attempt_cannot_be_paid_the_answer_is_kept(rich: Worker) -> None:
    async def walk() -> None:
        first = await rich.route()
        lower = Slo(name="chat", version=2, accuracy_value_usd=0.05, budget_usd_per_month=1e-4)
        query = Query(text="Prove it.")
        await rich.wallets.ready(CALLER.tenant_id, lower, rich.table, query)
        step = await rich.go_on(first.decision_id, 0)
        assert step.keep
        assert step.reason == "the budget is used up"

    asyncio.run(walk())
