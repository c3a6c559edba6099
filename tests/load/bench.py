"""Measures Route against a bare echo server in one run; the last line is JSON.

Route: 24 arms, a policy of as many trees and landmarks as training makes at most, the outbox
on, embedded Postgres behind it, one worker. The two servers take turns, so that a machine
whose speed drifts is fair to both; the ratio is the median over the turns.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from tests.kit.bundles import KEY
from tests.kit.policies import catalog
from tests.kit.postgres import PostgresServer
from tests.kit.server import Admin, ServerProcess, serving
from tests.kit.serving_bundles import bundle
from training.learning.head import MOST_TREES
from training.learning.signals import LANDMARKS

TURNS = 3
SECONDS = 5.0
CONNECTIONS = (8, 32)
STEADY_PER_S = 200.0

console = Console(stderr=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One run's figures, as the last line gives them."""

    route_per_s: float
    echo_per_s: float
    ratio: float
    p50_ms: float
    p99_ms: float
    rss_mb: float
    by_connections: dict[int, dict[str, float]]

    def to_json(self) -> str:
        """One line."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps(
            {
                name: round(value, 3) if isinstance(value, float) else value
                for name, value in plain.items()
            }
        )


def measure(turns: int = TURNS, seconds: float = SECONDS) -> Figures:
    """Runs both servers and drives them in turn."""
    with _echo() as echo, _leadline() as server:
        drive(server.address, connections=8, seconds=2.0)
        by_connections = {
            count: _turns(server.address, echo, count, turns, seconds) for count in CONNECTIONS
        }
        steady = drive(server.address, per_s=STEADY_PER_S, seconds=2 * seconds)
        rss_mb = max(psutil.Process(pid).memory_info().rss for pid in server.worker_pids()) / 1e6
        first = by_connections[CONNECTIONS[0]]
        return Figures(
            route_per_s=first["route_per_s"],
            echo_per_s=first["echo_per_s"],
            ratio=min(each["ratio"] for each in by_connections.values()),
            p50_ms=steady["p50_ms"],
            p99_ms=steady["p99_ms"],
            rss_mb=rss_mb,
            by_connections=by_connections,
        )


def _turns(route: str, echo: str, connections: int, turns: int, seconds: float) -> dict[str, float]:
    pairs = []
    for turn in range(turns):
        console.print(f"{connections} connections, turn {turn + 1} of {turns} ...", style="dim")
        pairs.append(
            (
                drive(route, connections=connections, seconds=seconds)["per_s"],
                drive(echo, connections=connections, seconds=seconds)["per_s"],
            )
        )
    return {
        "route_per_s": median(one for one, _ in pairs),
        "echo_per_s": median(other for _, other in pairs),
        "ratio": median(one / other for one, other in pairs),
    }


def drive(address: str, **options: float) -> dict[str, Any]:
    """Runs the load generator as a process of its own; fails when a call failed."""
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    done = subprocess.run(
        [sys.executable, "-m", "tests.load.generator", address, *flags],
        check=True,
        capture_output=True,
        text=True,
    )
    load: dict[str, Any] = json.loads(done.stdout)
    if load["errors"]:
        raise RuntimeError(f"{load['errors']} calls to {address} failed")
    return load


@contextmanager
def _echo() -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.load.echo"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield f"127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.terminate()
        process.wait(timeout=10)
        process.stdout.close()


@contextmanager
def _leadline() -> Iterator[ServerProcess]:
    postgres = PostgresServer(durable=True)
    postgres.start()
    postgres.make_template()
    try:
        with postgres.database() as dsn, tempfile.TemporaryDirectory() as directory:
            with Admin(dsn) as admin:
                admin.seed(catalog(), "default", signer=KEY)
                archive = bundle(catalog(), trees=MOST_TREES, landmarks=LANDMARKS)
                version = admin.registry.register(archive, {}, actor="bench").version
                admin.registry.promote(version, actor="bench")
            with serving(Path(directory), dsn) as server:
                yield server
    finally:
        postgres.remove()


def main() -> None:
    """Prints a table on stderr and the figures as the last line on stdout."""
    figures = measure()
    table = Table("connections", "Route /s", "echo /s", "ratio", title="Route against a bare echo")
    for connections, row in figures.by_connections.items():
        table.add_row(
            str(connections),
            f"{row['route_per_s']:,.0f}",
            f"{row['echo_per_s']:,.0f}",
            f"{row['ratio']:.2f}",
        )
    console.print(table)
    console.print(
        f"At {STEADY_PER_S:.0f}/s: p50 {figures.p50_ms:.1f} ms, p99 {figures.p99_ms:.1f} ms. "
        f"Worker: {figures.rss_mb:.0f} MB. {os.cpu_count()} cores."
    )
    sys.stdout.write(figures.to_json() + "\n")


if __name__ == "__main__":
    main()
