"""The executor over a worker's own parts: a learnt policy, its log, and scripted backends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry

from router.bundle.embedder import load_embedder
from router.bundle.loader import load_archive
from router.errors import InvalidInput, NotFound
from router.execution.backend import BackendFailed, backend_failed
from router.execution.backends import Backends, Guards
from router.execution.calls import Call, Completion, Failure
from router.execution.deciding import Request
from router.execution.executor import Executor
from router.execution.keys import Keys
from router.execution.scripted import ScriptedBackend, saying
from router.loading import bind, learned
from router.serving.budgets import Wallets
from router.serving.continuing import Continuing
from router.serving.deciding import Deciding, text_asked
from router.serving.decisions import Decisions, attempt_id
from router.serving.door import Door
from router.serving.outcomes import Outcomes
from router.serving.routing import Routing
from router.serving.rows import read
from router.serving.sightings import Reported
from router.serving.standing_in import StandingIn
from router.serving.state import Current, State
from router.serving.telemetry import Metrics, logger
from router.serving.tenants import TenantDirectory
from router.serving.threads import Threads
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
from router.store.seams import Kind
from router.types import Bounds, Catalog, Identity, Role
from tests.kit.bundles import TRUSTED
from tests.kit.execution import Answering, final, request
from tests.kit.policies import catalog
from tests.kit.serving_bundles import bundle
from tests.kit.surroundings import surroundings

KEY = b"k" * 32
CALLER = Identity(tenant_id=uuid4(), tenant="acme", key_id="k", role=Role.CALLER)
STRANGER = Identity(tenant_id=uuid4(), tenant="other", key_id="o", role=Role.CALLER)
SINGLES = frozenset(f"m{tier}:single" for tier in range(4))


def reachable() -> Catalog:
    known = catalog()
    models = tuple(replace(model, endpoint=f"twin://{model.name}") for model in known.models)
    return replace(known, models=models)


class Worker:
    """A worker's parts of Execute, in memory; each model answers by its script."""

    def __init__(self, state: State, slo: Slo) -> None:
        self.outbox, current = MemoryOutbox(), Current(state)
        self.threads, metrics = Threads(5.0), Metrics(CollectorRegistry())
        log, slos = MemoryLog(self.outbox), MemorySlos()
        slos.put(CALLER.tenant_id, slo, base_version=None, actor="test")
        self.wallets = wallets = Wallets(
            MemoryBudgets(), MemoryCosts(log), self.threads, metrics, logger()
        )
        self.wallets = wallets
        tenants = TenantDirectory(MemoryTenants(), slos, MemoryPromises(), self.threads)
        decisions = Decisions(self.outbox, log, self.threads, KEY)
        routing = Routing(
            current=current,
            outbox=self.outbox,
            key=KEY,
            metrics=metrics,
            max_query_bytes=1_000,
            exploration_rate=0.0,
            surroundings=surroundings(tenants, metrics, wallets),
        )
        continuing = Continuing(
            current=current,
            outbox=self.outbox,
            decisions=decisions,
            tenants=tenants,
            routing=routing,
            wallets=wallets,
        )
        self.seen: list[Reported] = []
        outcomes = Outcomes(self.outbox, decisions, watch=self.seen.append, wallets=wallets)
        standing_in = StandingIn(
            current=current,
            outbox=self.outbox,
            decisions=decisions,
            continuing=continuing,
            wallets=wallets,
        )
        self.deciding = Deciding(
            current=current,
            door=Door(routing, tenants),
            continuing=continuing,
            standing_in=standing_in,
            outcomes=outcomes,
            wallets=wallets,
            log=logger(),
        )

    def executor(self, scripts: dict[str, Answering]) -> Executor:
        def maker(endpoint: str, key: Callable[[], str]) -> ScriptedBackend:  # noqa: ARG001
            return ScriptedBackend(scripts.get(endpoint.removeprefix("twin://"), sure))

        return Executor(backends=Backends(Keys({}), Guards(), {"twin": maker}), deadline_s=10.0)

    def logged(self, kind: Kind, row_id: object) -> dict[str, object] | None:
        found = self.outbox.find(kind, CALLER.tenant_id, row_id)  # type: ignore[arg-type]
        return None if found is None else read(found.row)


def sure(_call: Call) -> Completion:
    return saying("4", confidence=-0.01)


def unsure(_call: Call) -> Completion:
    return saying("3", confidence=-3.0)


def broken(call: Call) -> BackendFailed:
    return backend_failed(Failure.GARBAGE, call.model.name)


@pytest.fixture(scope="module")
def state() -> State:
    known = reachable()
    archive = load_archive(bundle(known), trusted=TRUSTED, probe=False)
    return State.of(bind(learned(archive, load_embedder()), known, 1), known)


@pytest.fixture
def worker(state: State) -> Iterator[Worker]:
    made = Worker(state, Slo(name="default", accuracy_value_usd=0.05))
    yield made
    made.threads.close()


def asked(**bounds: object) -> Request:
    known = Bounds(allowed_arms=SINGLES, **bounds)  # type: ignore[arg-type]
    return replace(request(), bounds=known)


async def test_the_policy_goes_on_by_the_evidence_and_every_attempt_is_logged(
    worker: Worker,
) -> None:
    executor = worker.executor({f"m{tier}": unsure for tier in range(4)})
    last = await final(executor.execute(asked(may_continue=True), worker.deciding.of(CALLER)))
    assert len(last.attempts) > 1
    assert len({attempt.arm.key for attempt in last.attempts}) == len(last.attempts)
    for attempt in last.attempts:
        row_id = attempt_id(CALLER.tenant_id, last.decision_id, attempt.attempt)
        row = worker.logged(Kind.ATTEMPT, row_id)
        assert row is not None
        assert row["arm"] == attempt.arm.key
    assert len(worker.seen) >= len(last.attempts)
    assert 0.0 <= last.accuracy <= 1.0


async def test_what_the_policy_names_and_nothing_covers_is_not_set_aside(state: State) -> None:
    slo = Slo(name="default", accuracy_value_usd=0.05, budget_usd_per_day=1.0)
    worker = Worker(state, slo)
    executor = worker.executor({f"m{tier}": unsure for tier in range(4)})
    asking = asked(may_continue=True, compute_budget=1)
    last = await final(executor.execute(asking, worker.deciding.of(CALLER)))
    row = worker.logged(Kind.ATTEMPT, attempt_id(CALLER.tenant_id, last.decision_id, 0))
    assert row is not None
    assert row["next_arm"]
    assert len(last.attempts) == 1
    held = worker.wallets.held(CALLER.tenant_id, slo)
    worker.wallets.release(CALLER.tenant_id, last.decision_id, 1)
    assert worker.wallets.held(CALLER.tenant_id, slo) == held
    worker.threads.close()


async def test_the_arm_that_stands_in_is_logged_as_what_follows(worker: Worker) -> None:
    decider = worker.deciding.of(CALLER)
    routed = await decider.route(asked())
    first = routed.first.arm
    executor = worker.executor({first.model: broken})
    last = await final(executor.execute(asked(), decider))
    assert [attempt.arm.model == first.model for attempt in last.attempts] == [True, False]
    row = worker.logged(Kind.ATTEMPT, attempt_id(CALLER.tenant_id, last.decision_id, 0))
    assert row is not None
    assert row["next_arm"] == last.arm.key
    again = await decider.instead(last.decision_id, 0, Failure.GARBAGE)
    assert again is not None
    assert again.arm.key == last.arm.key
    assert [said.failed for said in worker.seen if said.decision_id == last.decision_id] == [
        True,
        False,
    ]


async def test_no_arm_stands_in_for_the_only_one(worker: Worker) -> None:
    executor = worker.executor({"m1": broken})
    only = replace(request(), bounds=Bounds(allowed_arms=frozenset({"m1:single"})))
    with pytest.raises(BackendFailed, match="garbage"):
        await final(executor.execute(only, worker.deciding.of(CALLER)))
    [said] = worker.seen
    assert said.failed


async def test_a_request_that_is_at_fault_says_nothing_of_the_backend(worker: Worker) -> None:
    def refusing(call: Call) -> BackendFailed:
        return backend_failed(Failure.REFUSED, call.model.name)

    executor = worker.executor({f"m{tier}": refusing for tier in range(4)})
    with pytest.raises(BackendFailed, match="refused"):
        await final(executor.execute(asked(), worker.deciding.of(CALLER)))
    assert worker.seen == []


async def test_a_stranger_learns_nothing_of_a_decision(worker: Worker) -> None:
    routed = await worker.deciding.of(CALLER).route(asked())
    stranger = worker.deciding.of(STRANGER)
    assert await stranger.instead(routed.decision_id, 0, Failure.TIMEOUT) is None
    with pytest.raises(NotFound):
        await stranger.route(replace(asked(), slo="nobody's"))
    with pytest.raises(InvalidInput, match="has no text"):
        await stranger.route(Request(task=replace(request().task, messages=())))


def test_what_is_decided_about_is_the_text_of_one_message_or_the_conversation() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    one = {"role": "user", "content": [{"type": "text", "text": "See"}, image]}
    two = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}

    assert text_asked((one,)) == "See"
    assert text_asked(({"role": "user", "content": [image]},)) == "(no text)"
    assert text_asked((one, two, one)) == "user: See\nuser: See"
    assert text_asked(()) == ""
