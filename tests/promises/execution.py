"""Faults of providers, and how soon whoever leaves is gone from them.

`python -m tests.promises.execution` prints what it measured.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np

from router.clients import Answered, AsyncClient, Chosen, Written
from router.errors import LeadlineError
from router.simulation.provider import ProviderSettings
from tests.kit.gateway_served import Served, served
from tests.kit.postgres import PostgresServer, rows
from tests.promises import Measured

DEADLINE_S = 4.0
LATE_S = 0.25
MOST_LEAVING_S = 0.1
ARMS = ("sim-small:single", "sim-medium:single")
ANSWERED = "answered"

EXPECTED = {
    "rate_limit": "answered, tried again",
    "error": "answered, tried again",
    "garbage": "answered by another arm",
    "half": "answered by another arm",
    "close": "answered by another arm",
    "hang": "answered by another arm",
}
"""What becomes of a call that goes wrong once."""

LASTING = {
    "rate_limit": "BACKEND_FAILED",
    "error": "BACKEND_FAILED",
    "garbage": "BACKEND_FAILED",
    "half": "BACKEND_FAILED",
    "close": "BACKEND_FAILED",
    "hang": "BACKEND_FAILED",
}
"""What becomes of one when every backend goes wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How an execution ended: in a word, when, and what it cost."""

    how: str
    seconds: float
    decision_id: UUID | None
    attempts: int
    answer: Answered | None


def faults() -> Measured:
    """Each fault, once and lasting, of whole answers and of streams, twice each."""
    with _running() as (place, dsn):
        wrong, ended = asyncio.run(_all_faults(place))
        lost, cost_off = _accounted(dsn, ended)
    late = max(each.seconds for each in ended)
    figures = (
        f"{len(ended)} executions, {len(wrong)} ended other than documented {wrong[:3] or ''}, "
        f"the latest after {late:.2f} s of {DEADLINE_S:g} s, {lost} without their outcomes, "
        f"{cost_off} billed otherwise than told"
    )
    held = not wrong and not lost and not cost_off and late < DEADLINE_S + LATE_S
    return Measured(figures=figures, held=held)


def leaving() -> Measured:
    """Whoever cancels Execute while a model writes."""
    with _running(ProviderSettings(count=20, time_scale=20.0)) as (place, _):
        seconds = asyncio.run(_leave(place, times=60))
    p50, p95, most = 1e3 * np.quantile(seconds, (0.5, 0.95, 1.0))
    figures = f"median {p50:.0f} ms, p95 {p95:.0f} ms, at most {most:.0f} ms of {len(seconds)}"
    return Measured(figures=figures, held=bool(p95 < 1e3 * MOST_LEAVING_S))


@contextmanager
def _running(provider: ProviderSettings | None = None) -> Iterator[tuple[Served, str]]:
    cluster = PostgresServer()
    cluster.start()
    cluster.make_template()
    try:
        with (
            cluster.database() as dsn,
            tempfile.TemporaryDirectory() as directory,
            served(dsn, Path(directory), provider or ProviderSettings(count=20)) as place,
        ):
            yield place, dsn
    finally:
        cluster.remove()


async def _all_faults(place: Served) -> tuple[list[str], list[Ended]]:
    """What ended other than documented, and all that ended."""
    wrong, ended = [], []
    async with AsyncClient(place.server.address) as client:
        for streams in (False, True):
            for kind in EXPECTED:
                for lasting in (False, True):
                    fault: dict[str, Any] = {"kind": kind, "times": 1_000 if lasting else 1}
                    if kind in {"rate_limit", "hang"}:
                        fault["seconds"] = 0.1 if kind == "rate_limit" else 30.0
                    for _ in range(2):
                        place.go_wrong(fault)
                        each = await _execute(client, streams=streams)
                        ended.append(each)
                        expected = (LASTING if lasting else EXPECTED)[kind]
                        if each.how != expected:
                            wrong.append(f"{kind}: {each.how} {_failures(each)}")
                        await _healthy(place, client)
    return wrong, ended


def _failures(ended: Ended) -> list[str]:
    return [] if ended.answer is None else [each.failure for each in ended.answer.attempts]


async def _healthy(place: Served, client: AsyncClient) -> None:
    """Waits until both arms answer again: a circuit that opened rests for some seconds."""
    place.go_wrong()
    for arm in ARMS:
        while True:
            try:
                await client.answer("2 + 2", allowed_arms=[arm])
            except LeadlineError:
                await asyncio.sleep(0.2)
            else:
                break


async def _execute(client: AsyncClient, *, streams: bool) -> Ended:
    started, identifier, how, answer = time.monotonic(), None, "nothing", None
    attempts = 0
    text: Counter[int] = Counter()
    try:
        async for event in client.execute(
            "What is 17 + 25?", timeout_s=DEADLINE_S, allowed_arms=ARMS, stream=streams
        ):
            if isinstance(event, Chosen):
                identifier, attempts = event.decision_id, event.attempt + 1
            elif isinstance(event, Written):
                text[event.attempt] += len(event.text)
            elif isinstance(event, Answered):
                answer, how = event, _how(event, text)
    except LeadlineError as error:
        how = error.reason
    seconds = time.monotonic() - started
    return Ended(how=how, seconds=seconds, decision_id=identifier, attempts=attempts, answer=answer)


def _how(answer: Answered, text: Counter[int]) -> str:
    if text and text[answer.attempt] != len(answer.text):
        return "half an answer"
    if len(answer.attempts) > 1:
        return "answered by another arm"
    return "answered, tried again" if answer.attempts[0].calls > 1 else "answered at once"


def _accounted(dsn: str, ended: list[Ended]) -> tuple[int, int]:
    """How many have not an outcome for each attempt, and how many cost other than was told."""
    lost = cost_off = 0
    deadline = time.monotonic() + 30
    for each in ended:
        query = (
            "select count(distinct attempt), coalesce(sum(cost_usd), 0) from outcomes "
            f"where decision_id = '{each.decision_id}'"
        )
        while True:
            [(count, cost_usd)] = rows(dsn, query)
            if count == each.attempts or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        lost += each.decision_id is None or count != each.attempts
        told = None if each.answer is None else each.answer.cost_usd
        cost_off += told is not None and not np.isclose(float(str(cost_usd)), told)
    return lost, cost_off


async def _leave(place: Served, times: int) -> list[float]:
    """How long after a cancellation the provider has noticed it, in seconds."""
    seconds = []
    async with AsyncClient(place.server.address) as client:
        for number in range(times):
            before = place.counters()["abandoned"]
            events = client.execute(
                "What is 17 + 25?", allowed_arms=["sim-medium:single"], stream=number % 2 == 1
            )
            async with aclosing(events):
                await anext(events)
                await asyncio.sleep(0.2)
                left_at = time.time()
            while (counted := place.counters())["abandoned"] == before:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            seconds.append(counted["abandoned_at"] - left_at)
    return seconds


if __name__ == "__main__":
    print(faults())
    print(leaving())
