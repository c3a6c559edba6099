"""What whoever waits for an execution hears, in this order: arms, progress and text, the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from router.execution.calls import CallMade, Failure, Usage
from router.execution.strategy import Answer
from router.types import Arm, Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """An arm is about to be run: the decision's, or a later attempt's.

    Text of earlier attempts is void. `cost_usd` and `accuracy` are expected; `failure` is
    that of the attempt before, where this one stands in for it.
    """

    decision_id: UUID
    attempt: int
    arm: Arm
    reason: str
    accuracy: float
    cost_usd: float
    failure: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What is going on, in a few words without the query's text."""

    attempt: int
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Partial:
    """A piece of the attempt's answer as it is written; only where the request streams.

    `tool_calls` are deltas in OpenAI's shape.
    """

    attempt: int
    text: str = ""
    tool_calls: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempted:
    """One attempt as it went. `answer` is None where it failed."""

    attempt: int
    arm: Arm
    calls: tuple[CallMade, ...]
    usage: Usage
    cost_usd: float
    latency_s: float
    answer: Answer | None = None
    evidence: Evidence | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Final:
    """The answer that is kept, which `attempt` gave; always the last event.

    `usage` and `cost_usd` are of all attempts together, `latency_s` runs from the request.
    """

    decision_id: UUID
    attempt: int
    arm: Arm
    answer: Answer
    attempts: tuple[Attempted, ...]
    usage: Usage
    cost_usd: float
    latency_s: float
    accuracy: float


Event = Decided | Progress | Partial | Final
