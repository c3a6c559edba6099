"""A gateway whose executions follow a script, over stores in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from openai import AsyncOpenAI
from prometheus_client import CollectorRegistry

from router.execution.calls import Failure, Said, Usage
from router.execution.deciding import Decider, Planned, Report, Request, Routed, Verdict
from router.execution.events import Attempted, Decided, Event, Final
from router.execution.executor import Take
from router.execution.strategy import Answer
from router.gateway.app import Parts, application
from router.gateway.server import listening
from router.gateway.streaming import PACE, Pace
from router.ids import decision_id
from router.policy.policy import static_policy
from router.serving.auth import KeyCallers
from router.serving.decisions import Decisions
from router.serving.outcomes import Outcomes
from router.serving.state import Current, State
from router.serving.telemetry import Metrics, logger
from router.serving.tenants import TenantDirectory
from router.serving.threads import Threads
from router.settings import Settings
from router.slo import Slo
from router.store.memory import (
    MemoryLog,
    MemoryOutbox,
    MemoryPromises,
    MemorySlos,
    MemoryTenants,
)
from router.types import Arm, Evidence, Identity, Role
from tests.kit.policies import catalog
from tests.kit.surroundings import memory_wallets

KEY = b"a key of this test"
Script = Callable[[Request, UUID], AsyncGenerator[Event, None]]
ARM = Arm(model="m0", strategy="single")


@dataclass(slots=True)
class Caller:
    """A decider that a script asks nothing but who calls."""

    identity: Identity

    async def route(self, request: Request) -> Routed:
        raise AssertionError(request.slo)

    async def go_on(self, decision_id: UUID, attempt: int, evidence: Evidence) -> Verdict:
        raise AssertionError(decision_id, attempt, evidence)

    def leave(self, decision_id: UUID, attempt: int) -> None:
        raise AssertionError(decision_id, attempt)

    async def instead(self, decision_id: UUID, attempt: int, failure: Failure) -> Planned | None:
        raise AssertionError(decision_id, attempt, failure)

    async def report(self, decision_id: UUID, report: Report) -> None:
        raise AssertionError(decision_id, report)


@dataclass(slots=True)
class Scripted:
    """Executes by a script, and remembers what was asked and when the last one was left."""

    script: Script
    requests: list[Request] = field(default_factory=list)
    left_at: float | None = None
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: Request, decider: Decider, take: Take) -> None:
        async with aclosing(self.execute(request, decider)) as events:
            async for event in events:
                if isinstance(event, Final):
                    await take(event)

    async def execute(self, request: Request, decider: Decider) -> AsyncGenerator[Event, None]:
        self.requests.append(request)
        self.asked.set()
        assert isinstance(decider, Caller)
        tenant_id = decider.identity.tenant_id
        decided = decision_id(tenant_id, None, datetime.now(UTC), KEY)
        try:
            async for event in self.script(request, decided):
                yield event
        except (asyncio.CancelledError, GeneratorExit):
            self.left_at = time.monotonic()
            self.left.set()
            raise


def decided(identifier: UUID, attempt: int = 0, arm: Arm = ARM) -> Decided:
    return Decided(
        decision_id=identifier, attempt=attempt, arm=arm, reason="", accuracy=0.8, cost_usd=1e-4
    )


def final(identifier: UUID, *said: Said, attempt: int = 0, arm: Arm = ARM) -> Final:
    usage, evidence = Usage(input_tokens=12, output_tokens=3), Evidence(confidence=-0.1)
    answer = Answer(said=said[0], others=said[1:], evidence=evidence)
    attempted = Attempted(
        attempt=attempt,
        arm=arm,
        calls=(),
        usage=usage,
        cost_usd=0.000125,
        latency_s=0.2,
        answer=answer,
        evidence=evidence,
    )
    return Final(
        decision_id=identifier,
        attempt=attempt,
        arm=arm,
        answer=answer,
        attempts=(attempted,),
        usage=usage,
        cost_usd=0.000125,
        latency_s=0.2,
        accuracy=0.9,
    )


async def says_hello(_request: Request, identifier: UUID) -> AsyncGenerator[Event, None]:
    yield decided(identifier)
    yield final(identifier, Said(text="Hello!"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """A gateway that serves, whom it knows, and what it has logged."""

    url: str
    key: str
    executor: Scripted
    outbox: MemoryOutbox
    tenant_id: UUID

    def client(self, **settings: Any) -> Any:
        """The official client, which tries nothing twice; its types do not know our fields."""
        told: dict[str, Any] = {"api_key": self.key, "max_retries": 0} | settings
        return AsyncOpenAI(base_url=f"{self.url}/v1", **told)


@asynccontextmanager
async def gateway(
    script: Script = says_hello, *, pace: Pace = PACE, **settings: Any
) -> AsyncIterator[Gateway]:
    """Serves inside the block on a port of its own, to the tenant acme, which has an slo "fast"."""
    told = Settings(**settings)
    tenants, slos, outbox = MemoryTenants(), MemorySlos(), MemoryOutbox()
    threads, executor = Threads(5.0), Scripted(script)
    tenant_id = tenants.create("acme", actor="test").tenant_id
    slos.put(tenant_id, Slo(name="fast"), base_version=None, actor="test")
    directory = TenantDirectory(tenants, slos, MemoryPromises(), threads)
    metrics, log = Metrics(CollectorRegistry()), MemoryLog(outbox)
    decisions = Decisions(outbox, log, threads, KEY)
    described = catalog()
    parts = Parts(
        executor=executor,
        decider=Caller,
        current=Current(State.of(static_policy(described), described)),
        tenants=directory,
        outcomes=Outcomes(outbox, decisions, wallets=memory_wallets(threads, metrics)),
        callers=KeyCallers(directory),
        metrics=metrics,
        log=logger(),
        key=KEY,
        pace=pace,
    )
    key = tenants.create_key("acme", Role.CALLER, actor="test")[1]
    async with listening(application(parts, told), told, 0) as port:
        yield Gateway(
            url=f"http://127.0.0.1:{port}",
            key=key,
            executor=executor,
            outbox=outbox,
            tenant_id=tenant_id,
        )
    threads.close()
