"""Outcomes that arrive at any worker show how a backend does."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from router.v1 import router_pb2 as pb
from tests.integration.test_serving import eventually
from tests.integration.test_serving_processes import free_port
from tests.kit.policies import catalog
from tests.kit.server import Admin, Stubs, serving


@pytest.fixture
def place(dsn: str, tmp_path: Path) -> Iterator[tuple[list[Stubs], int]]:
    """Some connections to two workers, and the port of their metrics."""
    port = free_port()
    with Admin(dsn) as admin:
        admin.seed(catalog(), "default")
    with ExitStack() as stack:
        server = stack.enter_context(serving(tmp_path, dsn, workers="2", metrics_port=str(port)))
        yield [stack.enter_context(Stubs(server.address)) for _ in range(6)], port


def figure(port: int, name: str, model: str) -> float | None:
    """What the metrics say of a model's backend; None while they say nothing."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    start = f'{name}{{model="{model}"}} '
    return next((float(line.removeprefix(start)) for line in lines if line.startswith(start)), None)


def attempts(connections: list[Stubs], factor: float, error: str = "", count: int = 40) -> str:
    """Routes and reports by turns through all connections; returns the model of the first."""
    usual_s: dict[str, float] = {}
    for number in range(count):
        routed = connections[number % len(connections)].router.Route(pb.RouteRequest(text="x"))
        median_s = usual_s.setdefault(routed.chosen.arm.model, routed.chosen.latency_p50_s)
        connections[(number + 1) % len(connections)].router.ReportOutcome(
            pb.ReportOutcomeRequest(
                decision_id=routed.decision_id,
                latency_s=factor * median_s,
                time_to_first_token_s=0.5 * factor * median_s,
                output_tokens=100,
                error=error,
            )
        )
    return next(iter(usual_s))


def test_a_slow_backend_shows_in_what_is_reported_and_a_failing_one_is_out(
    place: tuple[list[Stubs], int],
) -> None:
    connections, port = place
    model = attempts(connections, 4.0)
    eventually(lambda: (figure(port, "leadline_backend_slowdown", model) or 0.0) > 3.0)
    assert figure(port, "leadline_backend_available", model) == 1.0
    assert (figure(port, "leadline_backend_first_token_seconds", model) or 0.0) > 0.0
    assert figure(port, "leadline_backend_under_way", model) is not None
    failing = attempts(connections, 1.0, error="503")
    eventually(lambda: figure(port, "leadline_backend_available", failing) == 0.0)
