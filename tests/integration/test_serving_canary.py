"""Canaries on a real server: who decides for whom, and how a bad one ends by itself."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from router.clients import Client
from router.errors import Conflict
from router.policy.canary import place_of
from router.types import PolicyState
from router.v1 import policies_pb2
from router.v1 import router_pb2 as pb
from tests.integration.test_serving import eventually, refused
from tests.kit.bundles import KEY, flip
from tests.kit.policies import catalog
from tests.kit.postgres import PostgresServer, rows
from tests.kit.server import Admin, ServerProcess, Stubs, serving
from tests.kit.serving_bundles import bundle

GOOD, TRIED = 1, 2
ROUND_S = 0.5
LEADLINE = [sys.executable, "-c", "from router.cli import main; main()"]


@pytest.fixture(scope="module")
def place(
    cluster: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ServerProcess, Admin]]:
    """Two workers with policy 1 active and policy 2 registered."""
    with cluster.database() as dsn, Admin(dsn) as admin:
        seed(admin)
        with serving(tmp_path_factory.mktemp("canary"), dsn, workers="2") as server:
            yield server, admin


def seed(admin: Admin) -> None:
    admin.seed(catalog(), "default", signer=KEY)
    for cost_usd in (1e-3, 1e-2):
        admin.registry.register(bundle(catalog(), mean_cost_usd=cost_usd), {}, actor="test")
    admin.registry.promote(GOOD, actor="test")


def ask(address: str, count: int, **request: Any) -> list[pb.RouteResponse]:
    """Replies over connections of their own, so that either worker may answer."""
    found = []
    for number in range(count):
        if number % 8 == 0:
            stubs = Stubs(address)
        found.append(stubs.router.Route(pb.RouteRequest(text=f"What is {number}?", **request)))
        if number % 8 == 7 or number == count - 1:
            stubs.channel.close()
    return found


def versions(replies: list[pb.RouteResponse]) -> set[int]:
    return {reply.policy_version for reply in replies}


def units(tenant_id: UUID, share: float) -> tuple[str, str]:
    """A user on the canary's side of the share, and one on the other."""
    names = [f"user {number}" for number in range(200)]
    below = [place_of(TRIED, tenant_id, name) < share for name in names]
    return names[below.index(True)], names[below.index(False)]


def test_users_stay_on_their_side_on_every_worker_and_the_client_starts_and_ends_it(
    place: tuple[ServerProcess, Admin],
) -> None:
    server, admin = place
    tenant = admin.tenants.identify("default")
    assert tenant is not None
    inside, outside = units(tenant.tenant_id, 0.3)
    with Client(server.address) as client:
        started = client.start_canary(TRIED, share=0.3, comment="try it")
        assert (started.state, started.share) == (PolicyState.CANARY, 0.3)
        eventually(lambda: versions(ask(server.address, 80, subject=inside)) == {TRIED}, 20.0)
        assert versions(ask(server.address, 16, subject=outside)) == {GOOD}
        assert versions(ask(server.address, 8, conversation_id=inside, subject="b")) == {TRIED}
        sides = Counter(each.policy_version for each in ask(server.address, 80))
        assert 8 <= sides[TRIED] <= 48
        rejected = client.reject_policy(TRIED, comment="enough")
        assert (rejected.state, rejected.share) == (PolicyState.REJECTED, None)
        eventually(lambda: versions(ask(server.address, 80, subject=inside)) == {GOOD}, 10.0)
        with pytest.raises(Conflict):
            client.reject_policy(GOOD)


def test_a_retry_and_what_follows_an_attempt_stay_with_the_policy_that_decided(
    place: tuple[ServerProcess, Admin],
) -> None:
    server, admin = place
    admin.registry.canary(TRIED, share=0.5, actor="test")
    tenant = admin.tenants.identify("default")
    assert tenant is not None
    inside, _ = units(tenant.tenant_id, 0.5)
    eventually(lambda: versions(ask(server.address, 80, subject=inside)) == {TRIED}, 20.0)
    with Stubs(server.address) as stubs:
        for number in range(12):
            request = pb.RouteRequest(
                text=f"Why {number}?", request_id=str(uuid4()), may_continue=True
            )
            first, second = (stubs.router.Route(request) for _ in range(2))
            assert first == second
        decided = stubs.router.Route(
            pb.RouteRequest(text="What is 3 + 4?", subject=inside, may_continue=True)
        )
        evidence = pb.Evidence(confidence=-1.9)
        step = stubs.router.Continue(
            pb.ContinueRequest(decision_id=decided.decision_id, evidence=evidence)
        )
        if not step.keep:
            assert step.next.cost_usd == pytest.approx(1e-2, rel=0.9)
    admin.registry.reject(TRIED, actor="test")


def test_a_canary_whose_bundle_is_bad_decides_nothing_and_harms_nobody(
    place: tuple[ServerProcess, Admin],
) -> None:
    server, admin = place
    archive = bundle(catalog(), mean_cost_usd=0.5)
    bad = admin.registry.register(flip(archive, len(archive) // 2), {}, actor="test").version
    with Stubs(server.address) as operator:
        start = policies_pb2.StartCanaryRequest(version=bad, share=0.5)
        answer = refused(lambda: operator.policies.StartCanary(start, timeout=20))
        assert answer[:2] == ("FAILED_PRECONDITION", "BUNDLE_REFUSED")
        start = policies_pb2.StartCanaryRequest(version=TRIED, share=1.5)
        assert refused(lambda: operator.policies.StartCanary(start, timeout=20))[0] == (
            "INVALID_ARGUMENT"
        )
    admin.registry.canary(bad, share=0.9, actor="test")
    eventually(lambda: server.log.count('"canary refused"') >= 2, 10.0)
    assert versions(ask(server.address, 30)) == {GOOD}
    admin.registry.reject(bad, actor="test")


@pytest.mark.timeout(150)
def test_a_canary_that_answers_badly_is_rolled_back_by_itself(
    cluster: PostgresServer, tmp_path: Path
) -> None:
    with cluster.database() as dsn, Admin(dsn) as admin:
        seed(admin)
        admin.registry.canary(TRIED, share=0.25, actor="test")
        options = ["--dsn", dsn, "--port", "0", "--state-dir", str(tmp_path), "--workers", "2"]
        command = [*LEADLINE, "serve", *options, "--authentication", "none", "--log-level", "error"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
            try:
                assert server.stdout is not None
                line = server.stdout.readline().decode()
                address = line.split("serves on ")[1].split(" ")[0]
                ended_s = live_until_rejected(address, admin)
            finally:
                server.send_signal(signal.SIGTERM)
        assert server.returncode == 0
        assert ended_s < 2.0
        [(comment,)] = rows(dsn, "select comment from audit_log where action = 'policies.reject'")
        assert str(comment).startswith("worse: accuracy -0.")


def live_until_rejected(address: str, admin: Admin) -> float:
    """Asks and scores, nine of ten right but one of ten of the canary's; returns how long the
    canary decided on after its rejection, in seconds. Outcomes of a minute ago need not settle,
    and the watcher reads them in the pauses.
    """
    deadline, number = time.monotonic() + 100.0, 0
    while admin.registry.on_trial() is not None:
        assert time.monotonic() < deadline, "it is never rejected"
        with Stubs(address) as stubs:
            for reply in ask(address, 64):
                number += 1
                is_right = (number % 10 == 0) is (reply.policy_version == TRIED)
                report = pb.ReportOutcomeRequest(
                    decision_id=reply.decision_id, score=float(is_right), cost_usd=1e-3
                )
                report.occurred_at.FromDatetime(datetime.now(UTC) - timedelta(minutes=1))
                stubs.router.ReportOutcome(report)
        time.sleep(ROUND_S)
    rejected = time.monotonic()
    last = rejected
    while time.monotonic() - rejected < 3.0:
        if TRIED in versions(ask(address, 16)):
            last = time.monotonic()
    return last - rejected
