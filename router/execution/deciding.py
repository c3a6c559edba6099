"""The seam to whoever decides: which arm first, what follows an attempt, what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from router.execution.calls import Failure, Usage
from router.execution.strategy import Task
from router.types import Arm, Bounds, Capability, Evidence, Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One query to decide about and to answer.

    `request_id` makes the decision the same on a retry; the arm is run again. `deadline_s`
    is from now and holds for everything together. Where it `streams`, the text of an answer
    comes as it is written, as long as no other attempt may replace it. The other fields are
    those of a Route request; a named model alone is `bounds.allowed_arms`.
    """

    task: Task
    request_id: str = ""
    slo: str = ""
    subject: str = ""
    conversation_id: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    bounds: Bounds = field(default_factory=Bounds)
    needs: frozenset[Capability] = frozenset()
    needs_context_tokens: int = 0
    deadline_s: float | None = None
    streams: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """An arm to run, on which model, and what is expected of it."""

    arm: Arm
    model: Model
    accuracy: float
    cost_usd: float
    latency_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """A decision."""

    decision_id: UUID
    first: Planned
    reason: str
    should_continue: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What follows an attempt: `following`, or None to keep the answer of attempt `best`.

    `accuracy` is the belief in that answer.
    """

    following: Planned | None
    best: int
    accuracy: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What Leadline itself knows of an attempt afterwards.

    `latency_s` is None where nobody waited for the answer any more.
    """

    attempt: int
    usage: Usage
    cost_usd: float
    latency_s: float | None
    evidence: Evidence
    score: float | None = None
    source: str = ""
    failure: Failure | None = None


class Decider(Protocol):
    """Decides for one caller. Every method may be called again with the same arguments."""

    async def route(self, request: Request) -> Routed:
        """The decision, once it is logged. Raises as Route does, Infeasible among others."""
        ...

    async def go_on(self, decision_id: UUID, attempt: int, evidence: Evidence) -> Verdict:
        """What follows an attempt that gave an answer."""
        ...

    def leave(self, decision_id: UUID, attempt: int) -> None:
        """Says that the arm which `go_on` named for this attempt is not run."""
        ...

    async def instead(self, decision_id: UUID, attempt: int, failure: Failure) -> Planned | None:
        """The next feasible arm of another backend after a failed attempt, None without one."""
        ...

    async def report(self, decision_id: UUID, report: Report) -> None:
        """Logs what became of an attempt; it is safe when this returns."""
        ...
