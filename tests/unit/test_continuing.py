"""Continue says of an attempt what was said first, on whatever replica it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from prometheus_client import CollectorRegistry

from router.bundle.embedder import load_embedder
from router.bundle.loader import load_archive
from router.conditions import Conversation
from router.errors import Conflict, InvalidInput, LeadlineError, Unavailable
from router.loading import bind, learned
from router.serving.asked import asked
from router.serving.continuing import Continuing
from router.serving.conversations import Conversations
from router.serving.decisions import Decisions
from router.serving.routing import Routing
from router.serving.state import Current, State
from router.serving.telemetry import Metrics
from router.serving.tenants import TenantDirectory
from router.serving.threads import Threads
from router.serving.wire import continued
from router.store.memory import MemoryLog, MemoryOutbox, MemoryPromises, MemorySlos, MemoryTenants
from router.store.seams import Log
from router.types import Evidence, Identity, Role
from router.v1 import router_pb2 as pb
from tests.kit.bundles import TRUSTED
from tests.kit.policies import catalog
from tests.kit.serving_bundles import bundle
from tests.kit.surroundings import memory_wallets, surroundings

DECISION_KEY = b"k" * 32
CALLER = Identity(tenant_id=uuid4(), tenant="acme", key_id="k", role=Role.CALLER)


class AwayLog(MemoryLog):
    """Postgres is away."""

    def decision(self, tenant_id: UUID, decision_id: UUID) -> Mapping[str, Any] | None:  # noqa: ARG002
        raise Unavailable

    def attempt(self, tenant_id: UUID, decision_id: UUID, number: int) -> Mapping[str, Any] | None:  # noqa: ARG002
        raise Unavailable


class Replica:
    """One worker's parts of Route and Continue."""

    def __init__(self, state: State, outbox: MemoryOutbox, log: Log) -> None:
        self.threads, self.conversations = Threads(5.0), Conversations()
        current, metrics = Current(state), Metrics(CollectorRegistry())
        tenants = TenantDirectory(MemoryTenants(), MemorySlos(), MemoryPromises(), self.threads)
        wallets = memory_wallets(self.threads, metrics)
        self.routing = Routing(
            current=current,
            outbox=outbox,
            key=DECISION_KEY,
            metrics=metrics,
            max_query_bytes=1_000,
            exploration_rate=0.0,
            surroundings=surroundings(tenants, metrics, wallets),
        )
        self.continuing = Continuing(
            current=current,
            outbox=outbox,
            decisions=Decisions(outbox, log, self.threads, DECISION_KEY),
            tenants=tenants,
            routing=self.routing,
            wallets=wallets,
            conversations=self.conversations,
        )

    def route(self, conversation_id: str = "") -> str:
        question = asked("Prove it.", conversation_id=conversation_id)
        (row,) = self.routing.answer([self.routing.take(question, CALLER, {})])
        assert not isinstance(row, LeadlineError)
        return str(row["decision_id"])

    def go_on(self, decision_id: str, attempt: int, confidence: float) -> pb.ContinueResponse:
        evidence = Evidence(confidence=confidence, cost_usd=1e-3, output_tokens=7)
        going_on = self.continuing.go_on(UUID(decision_id), attempt, evidence, CALLER)
        return continued(asyncio.run(going_on), {})


@pytest.fixture(scope="module")
def state() -> State:
    archive = load_archive(bundle(catalog()), trusted=TRUSTED, probe=False)
    return State.of(bind(learned(archive, load_embedder()), catalog(), 1), catalog())


@pytest.fixture
def arrived() -> MemoryOutbox:
    """The outbox of the replica that decides; all that it holds is in Postgres too."""
    return MemoryOutbox()


@pytest.fixture
def first(state: State, arrived: MemoryOutbox) -> Iterator[Replica]:
    replica = Replica(state, arrived, MemoryLog(arrived))
    yield replica
    replica.threads.close()


@pytest.fixture
def second(state: State, arrived: MemoryOutbox) -> Iterator[Replica]:
    """A replica elsewhere, whose own outbox is empty."""
    replica = Replica(state, MemoryOutbox(), MemoryLog(arrived))
    yield replica
    replica.threads.close()


def test_a_conversation_goes_to_the_next_model_and_then_to_that_of_what_is_kept(
    first: Replica,
) -> None:
    decision_id = first.route("talk")
    step, now = first.go_on(decision_id, 0, 0.0), datetime.now(UTC)
    assert not step.keep
    found = first.conversations.find(CALLER.tenant_id, "talk", now=now)
    assert found is not None
    assert found.model == step.next.arm.model
    kept = first.go_on(decision_id, 1, 1.0)
    assert kept.keep
    assert kept.attempt == 1
    assert first.conversations.find(CALLER.tenant_id, "talk", now=now) == found


def test_what_an_earlier_turn_comes_to_does_not_undo_a_later_one() -> None:
    conversations, now = Conversations(), datetime.now(UTC)
    turn = CALLER.tenant_id, "talk"
    conversations.answered(*turn, model="later", input_tokens=9, now=now)
    conversations.continued(*turn, model="earlier", input_tokens=5, now=now)
    assert conversations.find(*turn, now=now) == Conversation(model="later", cached_tokens=9)
    conversations.continued(*turn, model="next", input_tokens=9, now=now)
    assert conversations.find(*turn, now=now) == Conversation(model="next", cached_tokens=9)


def test_any_replica_goes_on_after_an_earlier_attempt(first: Replica, second: Replica) -> None:
    decision_id = first.route()
    assert not first.go_on(decision_id, 0, 0.0).keep
    assert second.go_on(decision_id, 1, 1.0).reason


def test_a_retry_on_another_replica_gets_the_same_reply(first: Replica, second: Replica) -> None:
    decision_id = first.route()
    step = first.go_on(decision_id, 0, 0.0)
    assert second.go_on(decision_id, 0, 0.0) == step
    with pytest.raises(Conflict) as raised:
        second.go_on(decision_id, 0, 0.5)
    assert raised.value.reason == "REQUEST_ID_REUSED"


def test_an_attempt_that_nobody_asked_for_is_refused(first: Replica) -> None:
    with pytest.raises(InvalidInput):
        first.go_on(first.route(), 1, 0.5)


def test_while_postgres_is_away_only_what_this_machine_holds_is_gone_on_from(
    state: State, arrived: MemoryOutbox
) -> None:
    replica = Replica(state, arrived, AwayLog(arrived))
    decision_id = replica.route()
    with pytest.raises(Unavailable):
        replica.go_on(decision_id, 1, 0.5)
    step = replica.go_on(decision_id, 0, 0.0)
    assert replica.go_on(decision_id, 0, 0.0) == step
    assert replica.go_on(decision_id, 1, 0.5).reason
    replica.threads.close()
