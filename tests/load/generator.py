"""Drives one unary method with pre-serialised requests and measures every call.

It runs as a process of its own (`python -m tests.load.generator`) and prints one line of
JSON, so that its cost is not counted in the server's.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import grpc
import numpy as np
import uvloop

from router.v1 import router_pb2
from tests.load.echo import METHOD

Call = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a run brought; latencies in milliseconds, as a caller sees them."""

    calls: int
    errors: int
    per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


def requests(count: int, *, seed: int = 0) -> list[bytes]:
    """Serialised Route requests whose texts differ, of about 155 characters each."""
    rng = np.random.default_rng(seed)
    numbers = rng.integers(10, 10_000, size=(count, 18))
    return [
        router_pb2.RouteRequest(
            text=f"Question {index}: a shop sells boxes; what is "
            + " + ".join(map(str, row))
            + "? Show the total alone."
        ).SerializeToString()
        for index, row in enumerate(numbers)
    ]


async def closed_loop(
    address: str, bodies: Sequence[bytes], *, connections: int, seconds: float, key: str = ""
) -> Load:
    """Each connection has one call under way at a time."""
    channels = [_channel(address) for _ in range(connections)]
    ends = time.perf_counter() + seconds
    supply = itertools.cycle(bodies)
    started = time.perf_counter()
    results = await asyncio.gather(
        *(
            _caller(channel.unary_unary(METHOD), supply, ends, _metadata(key))
            for channel in channels
        )
    )
    elapsed = time.perf_counter() - started
    await asyncio.gather(*(channel.close() for channel in channels))
    latencies = [latency for each, _ in results for latency in each]
    return _load(latencies, sum(errors for _, errors in results), elapsed)


async def open_loop(
    address: str, bodies: Sequence[bytes], *, per_s: float, seconds: float, key: str = ""
) -> Load:
    """Calls start on a fixed clock whether or not earlier ones have ended."""
    channels = [_channel(address) for _ in range(8)]
    calls: Iterator[Call] = itertools.cycle([channel.unary_unary(METHOD) for channel in channels])
    supply = itertools.cycle(bodies)
    started = time.perf_counter()
    tasks = []
    for number in range(int(per_s * seconds)):
        await asyncio.sleep(max(0.0, started + number / per_s - time.perf_counter()))
        tasks.append(asyncio.create_task(_timed(next(calls), next(supply), _metadata(key))))
    results = await asyncio.gather(*tasks)
    elapsed = time.perf_counter() - started
    await asyncio.gather(*(channel.close() for channel in channels))
    answered = [latency for latency in results if latency is not None]
    return _load(answered, len(results) - len(answered), elapsed)


def _channel(address: str) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])


def _metadata(key: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),) if key else ()


async def _caller(
    call: Call, supply: Iterator[bytes], ends: float, metadata: tuple[tuple[str, str], ...]
) -> tuple[list[float], int]:
    latencies, errors = [], 0
    while time.perf_counter() < ends:
        latency = await _timed(call, next(supply), metadata)
        if latency is None:
            errors += 1
        else:
            latencies.append(latency)
    return latencies, errors


async def _timed(call: Call, body: bytes, metadata: tuple[tuple[str, str], ...]) -> float | None:
    started = time.perf_counter()
    try:
        await call(body, timeout=10, metadata=metadata)
    except grpc.aio.AioRpcError:
        return None
    return time.perf_counter() - started


def _load(latencies_s: Sequence[float], errors: int, elapsed_s: float) -> Load:
    quantiles = np.quantile(latencies_s or [np.nan], [0.5, 0.95, 0.99]) * 1_000
    return Load(
        calls=len(latencies_s),
        errors=errors,
        per_s=len(latencies_s) / elapsed_s,
        p50_ms=float(quantiles[0]),
        p95_ms=float(quantiles[1]),
        p99_ms=float(quantiles[2]),
    )


def main() -> None:
    """Runs one load and prints it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--per-s", type=float, default=0.0, help="open loop at this rate")
    parser.add_argument("--key", default="")
    options = parser.parse_args()
    bodies = requests(20_000)
    if options.per_s:
        run = open_loop(
            options.address, bodies, per_s=options.per_s, seconds=options.seconds, key=options.key
        )
    else:
        run = closed_loop(
            options.address,
            bodies,
            connections=options.connections,
            seconds=options.seconds,
            key=options.key,
        )
    sys.stdout.write(json.dumps(asdict(uvloop.run(run))) + "\n")


if __name__ == "__main__":
    main()
