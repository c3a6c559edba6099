"""The gateway's cost, its memory under many streams, and how soon it stops spending.

`python -m tests.promises.gateway` prints what it measured.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from router.simulation.provider import ProviderSettings
from tests.kit.gateway_served import Served, served
from tests.kit.http import Connection, connected
from tests.kit.postgres import PostgresServer
from tests.promises import Measured, promise

MODEL = "sim-small"
MOST_P50_S, MOST_P99_S = 0.004, 0.015
MOST_GROWTH = 0.05
MOST_LEAVING_S = 0.1
CONNECTIONS = 32
WARM = 50
SLOWLY = 2.0
"""By how much the provider's simulated time is stretched where streams must last."""


@promise(
    step=5,
    name="The gateway's overhead",
    must="over calling the provider directly, at 50 requests/s: p50 under 4 ms, p99 under 15 ms",
)
def overhead() -> Measured:
    """Calls at 50 a second through the gateway and as many directly, by turns, in one run."""
    with running() as place:
        direct_s, gateway_s = asyncio.run(compared(place, calls=1_000, per_s=50.0))
    p50, p99 = (float(np.quantile(gateway_s, q) - np.quantile(direct_s, q)) for q in (0.50, 0.99))
    figures = (
        f"p50 {1e3 * p50:.1f} ms, p99 {1e3 * p99:.1f} ms more than directly "
        f"({1e3 * np.quantile(direct_s, 0.5):.1f} and {1e3 * np.quantile(direct_s, 0.99):.1f} ms) "
        f"over {len(gateway_s):,} calls at 50/s"
    )
    return Measured(figures=figures, held=p50 < MOST_P50_S and p99 < MOST_P99_S)


@promise(
    step=5,
    name="Many streams at once",
    must="four waves of 200 concurrent streams: each ends whole, and the worker's memory grows by "
    "less than 5 % after the first",
)
def many_streams() -> Measured:
    """Waves of 200 streams at once; the memory after the last against that after the first."""
    with running(ProviderSettings(count=50, time_scale=SLOWLY)) as place:
        first, last, ended = asyncio.run(waved(place, streams=200, waves=4))
    growth = last / first - 1.0
    figures = (
        f"{ended:,} streams ended whole, 200 at once: {last / 2**20:.0f} MiB after the last wave, "
        f"{100 * growth:+.1f} % on the first"
    )
    return Measured(figures=figures, held=ended == 800 and growth < MOST_GROWTH)


@promise(
    step=5,
    name="A client that goes away stops the spending",
    must="the provider sees its call closed within 100 ms, of streams and of whole answers",
)
def going_away() -> Measured:
    """Clients that leave in the middle, of streams and of whole answers by turns."""
    with running(ProviderSettings(count=50, time_scale=SLOWLY)) as place:
        left_s = asyncio.run(left(place, times=40))
    figures = (
        f"the provider saw {len(left_s)} calls closed, p50 {1e3 * np.median(left_s):.0f} ms and at "
        f"most {1e3 * max(left_s):.0f} ms after their clients had gone"
    )
    return Measured(figures=figures, held=max(left_s) < MOST_LEAVING_S)


@contextmanager
def running(provider: ProviderSettings | None = None) -> Iterator[Served]:
    """A server with its gateway on a database of its own."""
    postgres = PostgresServer()
    with ExitStack() as stack:
        stack.callback(postgres.remove)
        postgres.start()
        postgres.make_template()
        dsn = stack.enter_context(postgres.database())
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        yield stack.enter_context(served(dsn, directory, provider))


def asking(number: int, **fields: Any) -> dict[str, Any]:
    """A request for one pass of a small model."""
    content = f"What is {number} + {number + 1}? Answer with the number alone."
    return {"model": MODEL, "messages": [{"role": "user", "content": content}], **fields}


def _path(url: str) -> str:
    return urlsplit(url).path + "/chat/completions"


async def compared(place: Served, *, calls: int, per_s: float) -> tuple[list[float], list[float]]:
    """Seconds of each call directly and through the gateway, each at that rate."""
    async with AsyncExitStack() as stack:
        ways = []
        for url in (place.provider, place.gateway):
            pool: asyncio.Queue[Connection] = asyncio.Queue()
            for _ in range(CONNECTIONS):
                pool.put_nowait(await stack.enter_async_context(connected(url)))
            ways.append((_path(url), pool))
        tasks: list[list[asyncio.Task[float]]] = [[], []]
        started = time.perf_counter()
        for number in range(2 * calls):
            await asyncio.sleep(started + number / (2 * per_s) - time.perf_counter())
            path, pool = ways[number % 2]
            tasks[number % 2].append(asyncio.create_task(_timed(pool, path, number)))
        direct_s, gateway_s = [await asyncio.gather(*each) for each in tasks]
    return direct_s[min(WARM, calls // 2) :], gateway_s[min(WARM, calls // 2) :]


async def _timed(pool: asyncio.Queue[Connection], path: str, number: int) -> float:
    started = time.perf_counter()
    connection = await pool.get()
    status, _ = await connection.post(path, asking(number))
    pool.put_nowait(connection)
    assert status == 200, status
    return time.perf_counter() - started


async def waved(place: Served, *, streams: int, waves: int) -> tuple[int, int, int]:
    """The worker's memory in bytes after the first wave and the last, and how many ended whole."""
    [pid] = place.server.worker_pids()
    path, memory, ended = _path(place.gateway), [], 0
    for wave in range(waves):
        async with AsyncExitStack() as stack:
            connections = [
                await stack.enter_async_context(connected(place.gateway)) for _ in range(streams)
            ]
            statuses = await asyncio.gather(
                *(
                    connection.stream(path, asking(wave * streams + number, stream=True))
                    for number, connection in enumerate(connections)
                )
            )
        ended += statuses.count(200)
        memory.append(_resident(pid))
    return memory[0], memory[-1], ended


def _resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmRSS:"))


async def left(place: Served, *, times: int) -> list[float]:
    """Seconds from each client's going until the provider saw the call closed."""
    seconds = []
    for number in range(times):
        before = place.counters()
        async with connected(place.gateway) as connection:
            streams = number % 2 == 0
            body = asking(number, stream=streams)
            task = asyncio.create_task(connection.begin(_path(place.gateway), body))
            await _until(place, "calls", before["calls"] + 1)
            if streams:
                await task
            gone_at = time.time()
            connection.writer.transport.abort()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        after = await _until(place, "abandoned", before["abandoned"] + 1)
        seconds.append(max(0.0, after["abandoned_at"] - gone_at))
    return seconds


async def _until(place: Served, name: str, count: int) -> dict[str, Any]:
    """The provider's counters once that one has come so far."""
    async with asyncio.timeout(20):
        while True:
            counters = await asyncio.to_thread(place.counters)
            if counters[name] >= count:
                return counters
            await asyncio.sleep(0.01)


if __name__ == "__main__":
    for measure in (overhead, many_streams, going_away):
        print(measure())
