"""Execute: Leadline runs the arm; how its request is built and its events are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Struct

from router.clients.calls import Query, RouteOptions, route_request
from router.clients.mapping import plain
from router.clients.messages import arm_of
from router.types import Arm, Evidence
from router.v1 import execution_pb2 as pb

PATH = "/router.v1.Executor/Execute"
TIMEOUT_S = 120.0

_SAMPLING = ("temperature", "top_p", "seed", "max_output_tokens", "tool_choice")


class ExecuteOptions(RouteOptions, total=False):
    """What may be said besides a route's options; everything is optional.

    `response_format`, `tools` and messages have OpenAI's shape. `answer_kind` is how answers
    are read and compared, `verifier` what checks them between rounds of refinement. `stream`
    asks for the text as it is written.
    """

    temperature: float
    top_p: float
    seed: int
    stop: Sequence[str]
    max_output_tokens: int
    response_format: Mapping[str, Any]
    tools: Sequence[Mapping[str, Any]]
    tool_choice: str
    answer_kind: str
    verifier: str
    verifier_params: Mapping[str, Any]
    samples: int
    stream: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """An arm is about to be run; text of earlier attempts is void.

    `failure` is that of the attempt before, where this one stands in for it.
    """

    decision_id: UUID
    attempt: int
    arm: Arm
    reason: str
    accuracy: float
    cost_usd: float
    failure: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """What is going on, in a few words."""

    attempt: int
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A part of the answer as it is written; tool calls are deltas."""

    attempt: int
    text: str
    tool_calls: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutedAttempt:
    """An attempt as it went; `failure` is empty where it gave an answer."""

    arm: Arm
    calls: int
    cost_usd: float
    latency_s: float
    failure: str
    evidence: Evidence | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """The answer that is kept, with every attempt, oldest first, and what all of them cost.

    `extracted` is the answer alone; `others` are more texts where `samples` asked for them.
    """

    decision_id: UUID
    attempt: int
    text: str
    finish_reason: str
    tool_calls: tuple[Mapping[str, Any], ...]
    others: tuple[str, ...]
    extracted: str | None
    cut_short: bool
    attempts: tuple[ExecutedAttempt, ...]
    accuracy: float | None
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost_usd: float
    latency_s: float

    @property
    def arm(self) -> Arm:
        """The arm whose answer was kept."""
        return self.attempts[self.attempt].arm


ExecutionEvent = Chosen | Noted | Written | Answered


def request(query: Query, options: ExecuteOptions) -> pb.ExecuteRequest:
    """The request on the wire."""
    said: dict[str, Any] = dict(options)
    routed = {name: said[name] for name in said if name in RouteOptions.__annotations__}
    text = query if isinstance(query, str) else "-"
    route = route_request(text, cast("RouteOptions", routed))
    if not isinstance(query, str):
        route.ClearField("text")
    return pb.ExecuteRequest(
        route=route,
        messages=[] if isinstance(query, str) else [_struct(each) for each in query],
        options=pb.CallOptions(
            **{name: said[name] for name in _SAMPLING if name in said},
            stop=said.get("stop", ()),
            response_format=_optional(said.get("response_format")),
            tools=[_struct(each) for each in said.get("tools", ())],
        ),
        answer_kind=said.get("answer_kind", ""),
        verifier=said.get("verifier", ""),
        verifier_params=_optional(said.get("verifier_params")),
        samples=said.get("samples", 0),
        stream=said.get("stream", False),
    )


def event(message: pb.ExecuteResponse) -> ExecutionEvent | None:
    """The event in a response; None for one that this version does not know."""
    match message.WhichOneof("event"):
        case "chosen":
            chosen = message.chosen
            said = plain(chosen) | {"arm": arm_of(chosen.arm)}
            return Chosen(**said | {"decision_id": UUID(chosen.decision_id)})
        case "progress":
            return Noted(attempt=message.progress.attempt, note=message.progress.note)
        case "partial":
            part = message.partial
            calls = tuple(map(MessageToDict, part.tool_calls))
            return Written(attempt=part.attempt, text=part.text, tool_calls=calls)
        case "answer":
            return _answered(message.answer)
    return None


def _answered(message: pb.FinalAnswer) -> Answered:
    said = plain(message)
    for name in ("decision_id", "said", "others", "attempts"):
        del said[name]
    return Answered(
        **said,
        decision_id=UUID(message.decision_id),
        text=message.said.text,
        finish_reason=message.said.finish_reason,
        tool_calls=tuple(map(MessageToDict, message.said.tool_calls)),
        others=tuple(each.text for each in message.others),
        attempts=tuple(map(_attempt, message.attempts)),
    )


def _attempt(message: pb.ExecutedAttempt) -> ExecutedAttempt:
    known = message.HasField("evidence")
    return ExecutedAttempt(
        arm=arm_of(message.arm),
        calls=message.calls,
        cost_usd=message.cost_usd,
        latency_s=message.latency_s,
        failure=message.failure,
        evidence=Evidence(**plain(message.evidence)) if known else None,
    )


def known(messages: Iterator[pb.ExecuteResponse]) -> Iterator[ExecutionEvent]:
    """The events that this version knows."""
    return (each for each in map(event, messages) if each is not None)


def _struct(said: Mapping[str, Any]) -> Struct:
    return ParseDict(dict(said), Struct())


def _optional(said: Mapping[str, Any] | None) -> Struct | None:
    return None if said is None else _struct(said)
