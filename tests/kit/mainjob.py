"""The real main job: history in, a policy trained and promoted, unseen queries routed.

The commands are those that a user types, each a process of its own. Outcomes come from a
real full-information log: 70 % of its queries, by a hash of their text, are the history;
the others go through the running server, and the table says what became of each arm.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from router import AsyncClient
from router.clients.running import Attempt
from router.types import Arm, Floats
from tests.kit.shared_data import SHARED_DATA

LEADLINE = Path(sys.executable).parent / "leadline"
HISTORY_SHARE = 0.7
RESAMPLES = 2_000

Row = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class MainJob:
    """What came of it; intervals are paired bootstrap over queries, 95 %, seed 0."""

    held_back: int
    routed: int
    accuracy: float
    cost_usd: float
    constant: str
    constant_accuracy: float
    constant_cost_usd: float
    accuracy_difference: tuple[float, float]
    cost_ratio: tuple[float, float]
    attempts: float

    def __str__(self) -> str:
        low, high = self.accuracy_difference
        cheap, dear = self.cost_ratio
        return (
            f"{self.routed:,} of {self.held_back:,} unseen queries routed: accuracy "
            f"{self.accuracy:.3f} at ${1_000 * self.cost_usd:.3f} per 1,000 "
            f"({self.attempts:.2f} attempts a query); best constant arm ({self.constant}) "
            f"{self.constant_accuracy:.3f} at ${1_000 * self.constant_cost_usd:.3f}; "
            f"difference {100 * low:+.1f} to {100 * high:+.1f} points "
            f"at {cheap:.2f} to {dear:.2f} of the cost"
        )


def run(directory: Path, log: Path = SHARED_DATA / "cascades.parquet") -> MainJob:
    """Runs the job with its state below `directory`."""
    history, unseen = _split(pq.read_table(log))
    history_file = directory / "history.parquet"
    pq.write_table(history, history_file)
    state = {"LEADLINE_STATE_DIR": str(directory / "state"), "LEADLINE_LOG_LEVEL": "warning"}
    environment = {**os.environ, **state}
    for command in (
        ("logs", "import", str(history_file)),
        ("train",),
        ("policies", "promote", "1"),
    ):
        subprocess.run([LEADLINE, *command], check=True, env=environment, stdout=sys.stderr)
    with _server(environment) as address:
        routed = asyncio.run(_route(address, unseen))
    return _compare(history, routed, unseen)


def _split(log: pa.Table) -> tuple[pa.Table, Sequence[Row]]:
    first = np.array([_early(text) for text in log["query"].to_pylist()])
    return log.filter(pa.array(first)), log.filter(pa.array(~first)).to_pylist()


def _early(text: str) -> bool:
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < HISTORY_SHARE


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """One query's way: the score that was kept, the cost of all attempts."""

    query_id: str
    score: float
    cost_usd: float
    attempts: int


@contextmanager
def _server(environment: dict[str, str]) -> Iterator[str]:
    """The address of `leadline serve`, with its embedded Postgres."""
    server = subprocess.Popen(
        [LEADLINE, "serve", "--authentication", "none", "--port", "0"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdout is not None
    try:
        yield server.stdout.readline().split(" serves on ")[1].split()[0]
    finally:
        server.terminate()
        server.wait(timeout=30)
        server.stdout.close()


async def _route(address: str, rows: Sequence[Row]) -> list[Routed]:
    table: dict[str, dict[str, Row]] = {}
    for row in rows:
        table.setdefault(str(row["query_id"]), {})[_key(row)] = row
    gate = asyncio.Semaphore(8)

    async with AsyncClient(address, timeout_s=10.0) as client:

        async def one(query_id: str, arms: Mapping[str, Row]) -> Routed:
            async with gate:
                return await _one(client, query_id, arms)

        return await asyncio.gather(*(one(*item) for item in table.items()))


async def _one(client: AsyncClient, query_id: str, arms: Mapping[str, Row]) -> Routed:
    text = str(next(iter(arms.values()))["query"])

    async def call(arm: Arm) -> Attempt[Row]:
        row = arms[arm.key]
        return Attempt(
            answer=row,
            confidence=_figure(row, "confidence"),
            cost_usd=_figure(row, "cost_usd"),
            latency_s=_figure(row, "latency_s"),
        )

    def score(row: Row) -> float:
        return float(str(row["score"]))

    done = await client.run(text, call, score=score, allowed_arms=sorted(arms))
    if done.unreported:
        raise done.unreported[0]
    costs = [attempt.cost_usd or 0.0 for attempt in done.attempts]
    return Routed(
        query_id=query_id,
        score=score(done.answer),
        cost_usd=sum(costs),
        attempts=len(done.attempts),
    )


def _key(row: Row) -> str:
    return Arm(model=str(row["model"]), strategy=str(row["strategy"])).key


def _figure(row: Row, name: str) -> float | None:
    value = row[name]
    return value if isinstance(value, float) and np.isfinite(value) else None


def _compare(history: pa.Table, routed: Sequence[Routed], rows: Sequence[Row]) -> MainJob:
    """The best constant arm is the most accurate of the history, ties to the cheaper."""
    means = history.group_by(["model"]).aggregate([("score", "mean"), ("cost_usd", "mean")])
    best = max(means.to_pylist(), key=lambda row: (row["score_mean"], -row["cost_usd_mean"]))
    constant = {str(row["query_id"]): row for row in rows if row["model"] == best["model"]}
    both = [each for each in routed if each.query_id in constant]
    score = np.array([each.score for each in both])
    cost_usd = np.array([each.cost_usd for each in both])
    other = np.array([float(str(constant[each.query_id]["score"])) for each in both])
    other_usd = np.array([float(str(constant[each.query_id]["cost_usd"])) for each in both])
    difference, ratio = _intervals(score, cost_usd, other, other_usd)
    return MainJob(
        held_back=len({row["query_id"] for row in rows}),
        routed=len(routed),
        accuracy=float(score.mean()),
        cost_usd=float(cost_usd.mean()),
        constant=best["model"],
        constant_accuracy=float(other.mean()),
        constant_cost_usd=float(other_usd.mean()),
        accuracy_difference=difference,
        cost_ratio=ratio,
        attempts=float(np.mean([each.attempts for each in routed])),
    )


def _intervals(
    score: Floats, cost_usd: Floats, other: Floats, other_usd: Floats
) -> tuple[tuple[float, float], tuple[float, float]]:
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(score), size=(RESAMPLES, len(score)))
    difference = (score - other)[drawn].mean(axis=1)
    ratio = cost_usd[drawn].mean(axis=1) / other_usd[drawn].mean(axis=1)
    low, high = np.quantile(difference, [0.025, 0.975])
    cheap, dear = np.quantile(ratio, [0.025, 0.975])
    return (float(low), float(high)), (float(cheap), float(dear))
