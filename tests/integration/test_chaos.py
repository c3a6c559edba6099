"""What was acknowledged is there once, whatever is killed; the full size is `make promises`."""

from __future__ import annotations

import time
from collections.abc import Callable

import grpc
import pytest

from router.clients.errors import error_of
from router.errors import OutboxFull
from router.v1.router_pb2 import RouteRequest
from tests.kit import chaos
from tests.kit.postgres import rows
from tests.kit.server import Stubs

pytestmark = pytest.mark.timeout(120)


def test_an_acknowledged_row_survives_kill_9_of_the_server() -> None:
    found = chaos.kill_server(1)
    assert found.audit.clean, found
    assert found.audit.decisions > 50


def test_an_acknowledged_row_survives_kill_9_of_postgres() -> None:
    found = chaos.kill_postgres(1)
    assert found.audit.clean, found
    assert not found.failed


def test_a_full_outbox_refuses_with_its_reason_and_recovers_with_nothing_lost() -> None:
    with chaos.stage(OUTBOX_MAX_BYTES=str(1 << 20)) as on, Stubs(on.address) as stubs:
        on.postgres.stop()
        acknowledged, refusal = route_until_refused(stubs)
        error = error_of(refusal, on.address)
        assert (type(error), error.reason) == (OutboxFull, "OUTBOX_FULL")
        assert "bring Postgres back" in error.message
        on.postgres.start()
        eventually(lambda: bool(stubs.router.Route(RouteRequest(text="Again?")).decision_id))
        eventually(lambda: acknowledged <= logged(on.dsn))


def route_until_refused(stubs: Stubs) -> tuple[set[str], grpc.RpcError]:
    """The decisions that were acknowledged, and how the next one was refused."""
    acknowledged: set[str] = set()
    while True:
        request = RouteRequest(text=f"What is {len(acknowledged)} + 1?")
        try:
            acknowledged.add(stubs.router.Route(request).decision_id)
        except grpc.RpcError as refusal:
            return acknowledged, refusal


def logged(dsn: str) -> set[str]:
    return {str(found) for (found,) in rows(dsn, "select decision_id from decisions")}


def eventually(holds: Callable[[], bool], within_s: float = 20.0) -> None:
    """Waits until it holds; a call that fails for now does not hold."""
    ends = time.monotonic() + within_s
    while True:
        try:
            if holds():
                return
        except grpc.RpcError:
            pass
        assert time.monotonic() < ends, "never held"
        time.sleep(0.1)
