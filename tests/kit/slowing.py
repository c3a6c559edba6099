"""Backends in trouble in simulated time: real decisions, rows, board and estimators."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import numpy as np
import orjson
from prometheus_client import CollectorRegistry

from router.conditions import Conditions
from router.ids import uuid7
from router.pipeline import decide
from router.policy.backends import PROBED
from router.policy.policy import Policy, Predicted
from router.serving.asked import asked
from router.serving.backends import TURN_S, Board
from router.serving.exchange import Exchange
from router.serving.rows import decision_row, dump
from router.serving.sightings import Reported, Sightings
from router.serving.state import State
from router.serving.telemetry import Metrics, logger
from router.slo import Slo
from router.store.memory import MemoryOutbox
from router.store.seams import Kind, Record
from router.types import Bounds, Catalog, Decision, Floats, Mask, Query, SloStatus

START_S = 1_800_000_000.0
TENANT = UUID(int=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """What befalls an attempt: a queue before its first token, and slower writing after it."""

    wait_s: float = 0.0
    pace: float = 1.0


Trouble = Callable[[str, float], float | Hit]
"""What befalls a model some seconds after the start; a number multiplies its latency.

Infinite: it fails.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Queries as a policy knows them, and how long each arm really takes, (q, a).

    `first_s` (q, a) of it go before the first token, which callers report; None: they do not.
    """

    policy: Policy
    catalog: Catalog
    known: Sequence[Predicted]
    latency_s: Floats
    slo: Slo
    first_s: Floats | None = None

    def took_s(self, query: int, arm: int, hit: Hit) -> tuple[float, float | None]:
        """An attempt's latency under what befalls it, and its time to first token if told."""
        first_s = 0.0 if self.first_s is None else float(self.first_s[query, arm])
        rest_s = hit.pace * (float(self.latency_s[query, arm]) - first_s)
        first_s = first_s + hit.wait_s
        return first_s + rest_s, None if self.first_s is None else first_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """What n decisions came to: seconds since the start, arms, and whether each was a probe.

    `promised` are those that said that they meet the slo, `late` those that failed or took
    longer than its bound.
    """

    at_s: Floats
    arm: Sequence[str]
    model: Sequence[str]
    promised: Mask
    late: Mask
    probe: Mask

    def late_share(self, first_s: float, last_s: float) -> float:
        """The share of promised decisions in a window that broke the bound."""
        inside = self._inside(first_s, last_s) & self.promised
        return float(self.late[inside].mean())

    def traffic(self, model: str, first_s: float, last_s: float) -> float:
        """The model's share of the decisions in a window."""
        inside = self._inside(first_s, last_s)
        return float((np.array(self.model)[inside] == model).mean())

    def share(self, arm: str, first_s: float, last_s: float) -> float:
        """The arm's share of the decisions in a window."""
        inside = self._inside(first_s, last_s)
        return float((np.array(self.arm)[inside] == arm).mean())

    def _inside(self, first_s: float, last_s: float) -> Mask:
        return np.asarray((first_s <= self.at_s) & (self.at_s < last_s))


class _Host:
    """One worker's parts, with an outbox in memory."""

    def __init__(self, world: World) -> None:
        self.world, self.outbox = world, MemoryOutbox()
        self.under_way: list[tuple[float, bytes, Reported]] = []
        self.turned_s = START_S
        sightings, exchange = Sightings([self.outbox]), Exchange(Path(), 0, 1)
        self.board = Board(sightings, exchange, Metrics(CollectorRegistry()), logger())
        state = State.of(world.policy, world.catalog)
        self.keys = state.keys
        self.asked = asked("x")

    def catch_up(self, now_s: float) -> None:
        """Reports what has ended, and turns the board as often as its thread would have."""
        while self.turned_s + TURN_S <= now_s:
            self.turned_s += TURN_S
            while self.under_way and self.under_way[0][0] <= self.turned_s:
                self.board.report(heapq.heappop(self.under_way)[2])
            self.board.turn(self.turned_s)

    def decide(self, query: int, now_s: float, draw: bytes) -> Decision:
        """One decision, logged."""
        now = datetime.fromtimestamp(now_s, UTC)
        decision = decide(
            self.world.policy,
            Query(text="x", input_tokens=10),
            self.world.slo,
            Bounds(),
            decision_id=uuid7(now, lambda _: draw),
            now=now,
            predicted=self.world.known[query],
            conditions=Conditions(backends=self.board.now(now_s)),
        )
        self.board.routed(TENANT, decision, decision.occurred_at)
        self._log(decision)
        return decision

    def _log(self, decision: Decision) -> None:
        conditions = orjson.loads(orjson.dumps(decision.conditions))
        row = decision_row(decision, self.asked, TENANT, self.keys, ())
        identifier = decision.decision_id
        self.outbox.put(
            Record(
                kind=Kind.DECISION,
                tenant_id=TENANT,
                key=identifier,
                row_id=identifier,
                digest=b"",
                row=dump({**row, "conditions": conditions}),
            )
        )

    def will_end(
        self, decision: Decision, now_s: float, took: tuple[float, float | None], failed: bool
    ) -> None:
        """The attempt's caller will say how it went, once it has ended."""
        ended_s = now_s + took[0]
        said = Reported(
            tenant_id=TENANT,
            decision_id=decision.decision_id,
            attempt=0,
            now_s=ended_s,
            latency_s=took[0],
            failed=failed,
            first_token_s=took[1],
        )
        heapq.heappush(self.under_way, (ended_s, decision.decision_id.bytes, said))


def walk(world: World, trouble: Trouble, *, per_s: float, seconds: float, seed: int) -> Walk:
    """Decides for random queries that arrive at random, so many a second on average."""
    rng, host = np.random.default_rng(seed), _Host(world)
    rows = list(_decided(world, trouble, host, _arrivals(rng, per_s, seconds), rng))
    at_s, arm, model, promised, late, probe = zip(*rows, strict=True)
    return Walk(
        at_s=np.array(at_s),
        arm=arm,
        model=model,
        promised=np.array(promised),
        late=np.array(late),
        probe=np.array(probe),
    )


def _arrivals(rng: np.random.Generator, per_s: float, seconds: float) -> Floats:
    return np.sort(rng.uniform(0.0, seconds, rng.poisson(per_s * seconds)))


def _decided(
    world: World, trouble: Trouble, host: _Host, arrivals: Floats, rng: np.random.Generator
) -> Iterator[tuple[float, str, str, bool, bool, bool]]:
    for at_s in arrivals.tolist():
        query, now_s = int(rng.integers(len(world.known))), START_S + at_s
        host.catch_up(now_s)
        decision = host.decide(query, now_s, rng.bytes(10))
        model, named = decision.arm.model, decision.conditions.backends
        hit = trouble(model, at_s)
        failed = hit == np.inf
        took = world.took_s(query, decision.choice.index, _hit(hit))
        host.will_end(decision, now_s, took, failed)
        promised = decision.choice.slo_status is SloStatus.MET
        late = failed or took[0] > (world.slo.max_latency_s or np.inf)
        yield at_s, decision.arm.key, model, promised, late, named.get(model) == PROBED


def _hit(trouble: float | Hit) -> Hit:
    """A factor multiplies all; what fails takes as long as it would have."""
    if isinstance(trouble, Hit):
        return trouble
    return Hit(pace=1.0 if np.isinf(trouble) else trouble)
