"""The same on a real server: two workers, callers on several connections, a backend that slows.

`python -m tests.promises.latency_served` prints how long it took to leave the backend and to
come back.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from router.v1 import router_pb2 as pb
from router.v1 import slos_pb2
from tests.kit.policies import catalog
from tests.kit.postgres import PostgresServer
from tests.kit.server import Admin, Stubs, serving

CONNECTIONS = 6
PAUSE_S = 0.05
LAST = 40
LONGEST_S = 120.0
RELOADED_S = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """Seconds until hardly any of the last 40 decisions took the slowed backend, and most did."""

    model: str
    left_s: float
    back_s: float


def served(factor: float = 4.0) -> Served:
    """Slows the backend that all traffic takes, then lets it be as before."""
    with _connections() as connections:
        callers, model = itertools.cycle(connections), catalog().models[-1].name
        usual_s = _bounded(connections, f"{model}:single")

        def share_of_last(slowed: float) -> Callable[[], float]:
            last: deque[str] = deque(maxlen=LAST)

            def share() -> float:
                last.append(_attempt(callers, model, usual_s, slowed))
                return last.count(model) / LAST if len(last) == LAST else 0.5

            return share

        _until(share_of_last(1.0), lambda share: share > 0.95)
        left_s = _until(share_of_last(factor), lambda share: share < 0.1)
        back_s = _until(share_of_last(1.0), lambda share: share > 0.9)
    return Served(model=model, left_s=left_s, back_s=back_s)


def _bounded(connections: Sequence[Stubs], best: str) -> float:
    """Writes an slo whose bound leaves a pass of the best arm half again its 0.95 quantile.

    Returns the arm's median.
    """
    asked = pb.RouteRequest(text="x", allowed_arms=[best])
    expected = connections[0].router.Route(asked).chosen
    slo = slos_pb2.Slo(
        name="bound",
        accuracy_value_usd=1.0,
        max_latency_s=1.5 * expected.latency_p95_s,
        allowed_strategies=["single"],
    )
    connections[0].slos.PutSlo(slos_pb2.PutSloRequest(slo=slo))
    time.sleep(RELOADED_S)
    return float(expected.latency_p50_s)


def _attempt(callers: Iterator[Stubs], model: str, usual_s: float, slowed: float) -> str:
    """One attempt, reported by another caller; returns the model that it took."""
    routed = next(callers).router.Route(pb.RouteRequest(text="x", slo="bound"))
    taken = str(routed.chosen.arm.model)
    latency_s = usual_s * (slowed if taken == model else 1.0)
    next(callers).router.ReportOutcome(
        pb.ReportOutcomeRequest(decision_id=routed.decision_id, latency_s=latency_s)
    )
    time.sleep(PAUSE_S)
    return taken


def _until(share: Callable[[], float], holds: Callable[[float], bool]) -> float:
    """How many seconds it takes; fails after two minutes."""
    started_s = time.monotonic()
    while not holds(share()):
        assert time.monotonic() - started_s < LONGEST_S
    return time.monotonic() - started_s


@contextmanager
def _connections() -> Iterator[Sequence[Stubs]]:
    """Connections to two workers on a database of their own."""
    postgres = PostgresServer()
    with ExitStack() as stack:
        stack.callback(postgres.remove)
        postgres.start()
        postgres.make_template()
        dsn = stack.enter_context(postgres.database())
        admin = stack.enter_context(Admin(dsn))
        admin.seed(catalog(), "default")
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        server = stack.enter_context(serving(Path(directory), dsn, workers="2"))
        yield [stack.enter_context(Stubs(server.address)) for _ in range(CONNECTIONS)]


if __name__ == "__main__":
    print(served())
