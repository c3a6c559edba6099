"""Policies switch under load: no error, no half policy, and a bad bundle changes nothing."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from uuid import uuid4

import grpc
import pytest

from router.v1 import policies_pb2
from router.v1 import router_pb2 as pb
from tests.integration.test_serving import eventually, refused
from tests.kit.bundles import KEY, flip
from tests.kit.policies import catalog
from tests.kit.postgres import PostgresServer
from tests.kit.server import Admin, ServerProcess, Stubs, serving
from tests.kit.serving_bundles import bundle

COSTS_USD = {1: 1e-3, 2: 1e-2}
SWAPS = 6


@pytest.fixture(scope="module")
def registry(
    cluster: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ServerProcess, Admin]]:
    """A server with two registered policies, whose cost tells which one predicted."""
    with cluster.database() as dsn, Admin(dsn) as admin:
        admin.seed(catalog(), "default", signer=KEY)
        for cost_usd in COSTS_USD.values():
            admin.registry.register(bundle(catalog(), mean_cost_usd=cost_usd), {}, actor="test")
        with serving(tmp_path_factory.mktemp("reload"), dsn, workers="2") as server:
            yield server, admin


def serves(address: str, version: int) -> bool:
    versions = set()
    for _ in range(6):
        with Stubs(address) as stubs:
            versions.add(stubs.router.Route(pb.RouteRequest(text="x")).policy_version)
    return versions == {version}


def test_swaps_under_load_bring_no_error_and_no_half_policy(
    registry: tuple[ServerProcess, Admin],
) -> None:
    server, _ = registry
    stop = threading.Event()
    seen: Counter[int] = Counter()
    wrong: list[str] = []

    def ask() -> None:
        with Stubs(server.address) as stubs:
            while not stop.is_set():
                try:
                    reply = stubs.router.Route(pb.RouteRequest(text="What is 3 + 4?"))
                except grpc.RpcError as error:
                    wrong.append(str(error))
                    continue
                seen[reply.policy_version] += 1
                expected = COSTS_USD.get(reply.policy_version)
                if expected and reply.chosen.cost_usd != pytest.approx(expected, rel=1e-5):
                    wrong.append(f"{reply.policy_version} predicts {reply.chosen.cost_usd}")

    with Stubs(server.address) as operator:
        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for swap in range(SWAPS):
            version = swap % 2 + 1
            request = policies_pb2.PromotePolicyRequest(version=version, comment="test")
            promoted = operator.policies.PromotePolicy(request, timeout=20).policy
            assert promoted.state == policies_pb2.POLICY_STATE_ACTIVE
            eventually(lambda version=version: serves(server.address, version), 10.0)  # type: ignore[misc]
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong
    assert seen[1]
    assert seen[2]


def test_a_bad_bundle_is_refused_and_the_old_policy_goes_on(
    registry: tuple[ServerProcess, Admin],
) -> None:
    server, admin = registry
    admin.registry.promote(2, actor="test")
    eventually(lambda: serves(server.address, 2), 10.0)
    archive = bundle(catalog(), mean_cost_usd=0.5)
    bad = admin.registry.register(flip(archive, len(archive) // 2), {}, actor="test")
    with Stubs(server.address) as operator:
        promote = policies_pb2.PromotePolicyRequest(version=bad.version)
        answer = refused(lambda: operator.policies.PromotePolicy(promote, timeout=20))
        assert answer[:2] == ("FAILED_PRECONDITION", "BUNDLE_REFUSED")
        admin.registry.promote(bad.version, actor="test")
        eventually(lambda: server.log.count('"policy refused"') >= 2, 10.0)
        assert serves(server.address, 2)
        rollback = policies_pb2.RollbackPolicyRequest(version=bad.version, request_id=str(uuid4()))
        for _ in range(2):
            assert operator.policies.RollbackPolicy(rollback).policy.version == 2
        rollback.request_id = str(uuid4())
        again = refused(lambda: operator.policies.RollbackPolicy(rollback))
        assert again[:2] == ("ABORTED", "CONFLICT")
        missing = policies_pb2.GetPolicyRequest(version=99)
        assert refused(lambda: operator.policies.GetPolicy(missing))[1] == "POLICY_NOT_FOUND"
    time.sleep(0.1)
    assert serves(server.address, 2)
