"""Route with a canary: both sides in one go, nothing added without one, and no harm by a fault."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from uuid import uuid4

from prometheus_client import CollectorRegistry

from router.bundle.embedder import load_embedder
from router.bundle.loader import load_archive
from router.errors import LeadlineError
from router.loading import bind, learned
from router.policy.canary import place_of
from router.policy.policy import Policy, Predicted
from router.serving.routing import Routing
from router.serving.state import Current, State
from router.serving.telemetry import Metrics
from router.serving.tenants import TenantDirectory
from router.serving.threads import Threads
from router.serving.wire import question, reply
from router.store.memory import MemoryOutbox, MemoryPromises, MemorySlos, MemoryTenants
from router.types import Identity, Role
from router.v1 import router_pb2 as pb
from tests.kit.bundles import TRUSTED
from tests.kit.policies import catalog
from tests.kit.serving_bundles import bundle
from tests.kit.surroundings import memory_wallets, surroundings

CALLER = Identity(tenant_id=uuid4(), tenant="acme", key_id="k", role=Role.CALLER)
SHARE = 0.4
NAMES = [f"user {number}" for number in range(60)]


@cache
def policy(version: int) -> Policy:
    archive = bundle(catalog(), mean_cost_usd=1e-3 * version)
    loaded = load_archive(archive, trusted=TRUSTED, probe=False)
    return bind(learned(loaded, load_embedder()), catalog(), version)


class FaultyPredictor:
    """Nobody foresaw what it meets."""

    arms = catalog().arms

    def predict(self, _contexts: Sequence[object]) -> list[Predicted]:
        raise ZeroDivisionError


class Place:
    """Routing over one state, with policy 1 active and policy 2 the canary."""

    def __init__(self, canary: Policy | None) -> None:
        self.registry = CollectorRegistry()
        metrics, threads = Metrics(self.registry), Threads(5.0)
        tenants = TenantDirectory(MemoryTenants(), MemorySlos(), MemoryPromises(), threads)
        self.current = Current(
            State.of(policy(1), catalog()).beside(canary, SHARE if canary else 0.0)
        )
        self.outbox = MemoryOutbox()
        self.routing = Routing(
            current=self.current,
            outbox=self.outbox,
            key=b"k" * 32,
            metrics=metrics,
            max_query_bytes=1_000,
            exploration_rate=0.0,
            surroundings=surroundings(tenants, metrics, memory_wallets(threads, metrics)),
        )

    def ask(self, *requests: pb.RouteRequest) -> list[pb.RouteResponse]:
        waiting = [self.routing.take(question(each), CALLER, {}) for each in requests]
        found = []
        for row in self.routing.answer(waiting):
            assert not isinstance(row, LeadlineError), row
            found.append(reply(row, self.current.state.arms))
        return found


def requests() -> list[pb.RouteRequest]:
    return [pb.RouteRequest(text=f"Who is {name}?", subject=name) for name in NAMES]


def test_each_request_is_answered_in_its_place_by_the_policy_of_its_side() -> None:
    replies = Place(policy(2)).ask(*requests())
    inside = [place_of(2, CALLER.tenant_id, name) < SHARE for name in NAMES]
    assert 5 < sum(inside) < 55
    assert [reply.policy_version for reply in replies] == [1 + each for each in inside]
    alone = Place(policy(2))
    for said, request in list(zip(replies, requests(), strict=True))[:8]:
        [again] = alone.ask(request)
        assert (again.chosen, again.reason) == (said.chosen, said.reason)


def test_a_request_that_is_sent_again_gets_its_decision_whatever_the_share_is_by_then() -> None:
    place = Place(policy(2))
    request = [pb.RouteRequest(text="Why?", request_id=str(uuid4())) for _ in range(20)]
    first = place.ask(*request)
    assert {reply.policy_version for reply in first} == {1, 2}
    place.current.state = State.of(policy(1), catalog())
    assert place.ask(*request) == first


def test_a_canary_that_fails_leaves_its_requests_to_the_active_policy() -> None:
    faulty = replace(policy(2), predictor=FaultyPredictor())
    place = Place(faulty)
    replies = place.ask(*requests())
    assert {reply.policy_version for reply in replies} == {1}
    assert len({reply.decision_id for reply in replies}) == len(NAMES)
    assert place.current.state.canary is None
    assert place.registry.get_sample_value("leadline_canary_failures_total") == 1.0
