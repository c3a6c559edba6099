"""Real kills and real outages under load, and what they cost: the same code at every size."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from router.serving.ports import HeldPort
from router.v1.router_pb2 import RouteRequest
from tests.kit.bundles import KEY
from tests.kit.policies import catalog
from tests.kit.postgres import PostgresServer
from tests.kit.server import Admin, ServerProcess, Stubs
from tests.kit.serving_bundles import bundle
from tests.kit.traffic import Audit, Ledger, Traffic, audit


@dataclass(frozen=True, slots=True, kw_only=True)
class Chaos:
    """What came of a run."""

    audit: Audit
    failed: tuple[str, ...]
    ledger: Ledger

    def __str__(self) -> str:
        return f"{self.audit}; {len(self.failed)} calls failed for good"


class Stage:
    """A cluster and a server of their own, at a port that stays over restarts."""

    def __init__(
        self, postgres: PostgresServer, directory: Path, dsn: str, **settings: str
    ) -> None:
        self.postgres, self.dsn = postgres, dsn
        with HeldPort("127.0.0.1", 0) as held:
            self.address = f"127.0.0.1:{held.port}"
        self.server = ServerProcess(
            directory, {"DSN": dsn, "PORT": self.address.rpartition(":")[2], **settings}
        )

    def kill_server(self) -> None:
        """kill -9 of supervisor and workers at once."""
        assert self.server.process is not None
        pids = [*self.server.worker_pids(), self.server.process.pid]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.server._release()


@contextmanager
def stage(**settings: str) -> Iterator[Stage]:
    """A server with a catalog of 24 arms that runs on a cluster which may be killed."""
    postgres = PostgresServer(durable=True)
    postgres.start()
    postgres.make_template()
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name,
        postgres.database() as dsn,
    ):
        with Admin(dsn) as admin:
            admin.seed(catalog(), "default", signer=KEY)
        set_up = Stage(postgres, Path(name), dsn, **settings)
        set_up.server.start()
        try:
            yield set_up
        finally:
            set_up.server.stop()
    postgres.remove()


def under_traffic(on: Stage, act: Callable[[], None], *, timeout_s: float = 20.0) -> Chaos:
    """Acts while callers route and report, then audits all that was acknowledged."""
    with Traffic(on.address, timeout_s=timeout_s) as traffic:
        time.sleep(1.0)
        act()
        time.sleep(1.0)
    found = audit(on.dsn, traffic.ledger)
    return Chaos(audit=found, failed=tuple(traffic.ledger.failures), ledger=traffic.ledger)


def kill_server(kills: int) -> Chaos:
    """Kills the server under load, `kills` times, and starts it again each time."""
    with stage() as on:

        def act() -> None:
            for _ in range(kills):
                on.kill_server()
                on.server.start()
                time.sleep(1.0)

        return under_traffic(on, act)


def kill_postgres(kills: int) -> Chaos:
    """Kills Postgres under load, `kills` times, and starts it again each time."""
    with stage() as on:

        def act() -> None:
            for _ in range(kills):
                on.postgres.kill()
                time.sleep(0.5)
                on.postgres.start()
                time.sleep(1.5)

        return under_traffic(on, act, timeout_s=2.0)


def stop_postgres(seconds: float) -> Chaos:
    """Keeps Postgres away for a while under load."""
    with stage() as on:

        def act() -> None:
            on.postgres.stop()
            time.sleep(seconds)
            on.postgres.start()

        return under_traffic(on, act, timeout_s=2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Swaps:
    """What came of swapping policies under load."""

    chaos: Chaos
    seen: int
    slowest_s: float
    mismatched: int


def swap_policies(swaps: int) -> Swaps:
    """Promotes two policies in turn under load; each predicts a cost of its own.

    A reply is mismatched when its predictions are not those of the version that it names.
    """
    costs = {1: 1e-3, 2: 2e-3}
    with stage(WORKERS="2") as on, Admin(on.dsn) as admin:
        for cost_usd in costs.values():
            archive = bundle(catalog(), mean_cost_usd=cost_usd)
            admin.registry.register(archive, {}, actor="test")
        delays, mismatched = [], 0

        def act() -> None:
            nonlocal mismatched
            for number in range(swaps):
                version = number % 2 + 1
                admin.registry.promote(version, actor="test")
                delay_s, wrong = _follow(on.address, version, costs)
                delays.append(delay_s)
                mismatched += wrong

        chaos = under_traffic(on, act)
    seen = len(chaos.ledger.versions)
    return Swaps(chaos=chaos, seen=seen, slowest_s=max(delays), mismatched=mismatched)


def _follow(address: str, version: int, costs: dict[int, float]) -> tuple[float, int]:
    """Routes until 20 connections in a row see the version; counts replies that do not fit."""
    started, wrong, in_a_row = time.monotonic(), 0, 0
    last = started
    while in_a_row < 20:
        with Stubs(address) as stubs:
            reply = stubs.router.Route(RouteRequest(text="How long?"), timeout=5)
        expected = costs.get(reply.policy_version)
        if expected is not None and abs(reply.chosen.cost_usd / expected - 1) > 1e-3:
            wrong += 1
        if reply.policy_version == version:
            in_a_row += 1
        else:
            in_a_row, last = 0, time.monotonic()
        assert time.monotonic() - started < 30, f"version {version} never came"
    return last - started, wrong
