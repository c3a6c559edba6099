"""Traffic that remembers what was acknowledged, and the audit of what became of it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self
from uuid import UUID

from router import AsyncClient
from router.errors import LeadlineError
from router.ids import uuid7
from tests.kit.postgres import rows


@dataclass(slots=True)
class Ledger:
    """Everything that was acknowledged, and how often a call failed for good."""

    decisions: dict[UUID, UUID] = field(default_factory=dict)
    outcomes: set[UUID] = field(default_factory=set)
    versions: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What the database holds of what was acknowledged."""

    decisions: int
    outcomes: int
    missing: int
    doubled: int

    @property
    def clean(self) -> bool:
        """Whether nothing is missing or doubled."""
        return not self.missing and not self.doubled

    def __str__(self) -> str:
        return (
            f"{self.decisions:,} decisions and {self.outcomes:,} outcomes acknowledged, "
            f"{self.missing} missing, {self.doubled} doubled"
        )


class Traffic:
    """Some callers that route and report, one after the other, until it is left.

    Every call carries a request_id of its own and is retried with it for up to
    `timeout_s`, as the client does; the ledger then holds only what was acknowledged.
    """

    def __init__(
        self, address: str, *, callers: int = 4, pause_s: float = 0.002, timeout_s: float = 20.0
    ) -> None:
        self.ledger = Ledger()
        self._address, self._callers = address, callers
        self._pause_s, self._timeout_s = pause_s, timeout_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    async def _run(self) -> None:
        await asyncio.gather(*(self._call(number) for number in range(self._callers)))

    async def _call(self, caller: int) -> None:
        async with AsyncClient(self._address, timeout_s=self._timeout_s) as client:
            number = 0
            while not self._stop.is_set():
                number += 1
                await self._once(client, f"Caller {caller} asks: what is {number} + {caller}?")
                await asyncio.sleep(self._pause_s)

    async def _once(self, client: AsyncClient, text: str) -> None:
        request_id, report_id = (uuid7(datetime.now(UTC)) for _ in range(2))
        try:
            decision = await client.route(text, request_id=request_id)
            self.ledger.decisions[request_id] = decision.decision_id
            self.ledger.versions[decision.policy_version] += 1
            outcome_id = await client.report_outcome(
                decision.decision_id, score=1.0, source="exact", request_id=report_id
            )
            self.ledger.outcomes.add(outcome_id)
        except LeadlineError as error:
            self.ledger.failures.append(f"{error.reason}: {error.message}")


def audit(dsn: str, ledger: Ledger, *, within_s: float = 30.0) -> Audit:
    """Waits until all that was acknowledged has arrived, or the time is over, and counts."""
    ends = time.monotonic() + within_s
    while not (found := _count(dsn, ledger)).clean and time.monotonic() < ends:
        time.sleep(0.25)
    return found


def _count(dsn: str, ledger: Ledger) -> Audit:
    decisions = Counter(rows(dsn, "select request_id, decision_id from decisions"))
    named = (request_id for request_id, _ in decisions.elements() if request_id is not None)
    requests = Counter(named)
    outcomes = Counter(outcome_id for (outcome_id,) in rows(dsn, "select outcome_id from outcomes"))
    missing = sum(pair not in decisions for pair in ledger.decisions.items())
    missing += sum(outcome_id not in outcomes for outcome_id in ledger.outcomes)
    doubled = sum(count > 1 for count in (*requests.values(), *outcomes.values()))
    return Audit(
        decisions=len(ledger.decisions),
        outcomes=len(ledger.outcomes),
        missing=missing,
        doubled=doubled,
    )
