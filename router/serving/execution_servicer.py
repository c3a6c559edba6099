"""The service Executor: a request to an execution, its events to a stream of responses."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Struct

from router.clients.messages import arm_message
from router.errors import InvalidInput
from router.execution.answers import reader
from router.execution.calls import Message, Options, Said
from router.execution.deciding import Request
from router.execution.events import Attempted, Decided, Event, Final, Partial, Progress
from router.execution.executor import Executes
from router.execution.strategy import Task
from router.serving import fields
from router.serving.deciding import Deciding, text_asked
from router.serving.edge import Rpc
from router.serving.wire import question
from router.types import Bounds, Evidence, Identity
from router.v1 import execution_pb2 as pb
from router.v1 import router_pb2

MOST_SAMPLES = 16
MOST_OUTPUT_TOKENS = 1_000_000
PASSED_THROUGH = frozenset({"auto", "none", "required"})


class ExecutionServicer:
    """Answers queries."""

    def __init__(self, executor: Executes, deciding: Deciding) -> None:
        self._executor, self._deciding = executor, deciding

    def rpcs(self) -> list[Rpc]:
        """The methods."""
        return [
            Rpc(
                name="/router.v1.Executor/Execute",
                request=pb.ExecuteRequest,
                answers=self.execute,
            )
        ]

    async def execute(
        self, message: pb.ExecuteRequest, caller: Identity, left_s: float | None
    ) -> AsyncGenerator[pb.ExecuteResponse, None]:
        """Execute."""
        asked = request_of(message, left_s)
        decider = self._deciding.of(caller, question(_route(message, asked.task.messages)))
        async with aclosing(self._executor.execute(asked, decider)) as events:
            async for event in events:
                yield response_of(event)


def _route(message: pb.ExecuteRequest, messages: tuple[Message, ...]) -> router_pb2.RouteRequest:
    """The Route request that is executed: about the text of messages where there are some."""
    route = router_pb2.RouteRequest()
    route.CopyFrom(message.route)
    if message.messages:
        route.text = text_asked(messages)
    return route


def request_of(message: pb.ExecuteRequest, left_s: float | None) -> Request:
    """The request as values. Raises InvalidInput that names the field."""
    kind = message.answer_kind or "auto"
    reader(kind)
    if not 0 <= message.samples <= MOST_SAMPLES:
        raise InvalidInput(f"{message.samples} is not from 1 to {MOST_SAMPLES}", field="samples")
    task = Task(
        messages=_messages(message),
        options=_options(message.options),
        answer_kind=kind,
        verifier=fields.short(message.verifier, "verifier", 128) or "model",
        verifier_params=_plain(message.verifier_params) or None,
        samples=message.samples or 1,
    )
    bounds = Bounds(compute_budget=message.route.compute_budget)
    return Request(task=task, bounds=bounds, deadline_s=left_s, streams=message.stream)


def _messages(message: pb.ExecuteRequest) -> tuple[Message, ...]:
    if message.messages:
        return tuple(_spoken(_plain(each)) for each in message.messages)
    if message.route.WhichOneof("query") == "chat":
        given = message.route.chat.messages
        return tuple({"role": each.role or "user", "content": each.content} for each in given)
    return ({"role": "user", "content": message.route.text},)


def _spoken(message: dict[str, Any]) -> Message:
    if not isinstance(message.get("role"), str):
        raise InvalidInput("each needs a role", field="messages")
    return message


def _options(message: pb.CallOptions) -> Options:
    most, choice = fields.optional(message, "max_output_tokens"), message.tool_choice
    if most is not None and not 1 <= most <= MOST_OUTPUT_TOKENS:
        raise InvalidInput(
            f"{most} is not from 1 to {MOST_OUTPUT_TOKENS:,}", field="options.max_output_tokens"
        )
    named = {"type": "function", "function": {"name": choice}}
    return Options(
        temperature=_within(message, "temperature", 2.0),
        top_p=_within(message, "top_p", 1.0),
        seed=fields.optional(message, "seed"),
        stop=tuple(message.stop),
        max_output_tokens=most,
        response_format=_plain(message.response_format) or None,
        tools=tuple(map(_plain, message.tools)),
        tool_choice=(choice if choice in PASSED_THROUGH else named) if choice else None,
    )


def _within(message: pb.CallOptions, name: str, most: float) -> float | None:
    value: float | None = fields.optional(message, name)
    if value is not None and not 0 <= value <= most:
        raise InvalidInput(f"{value} is not from 0 to {most:g}", field=f"options.{name}")
    return value


def _plain(message: Struct) -> dict[str, Any]:
    """A Struct as a mapping; it has no whole numbers, so those are made whole again."""
    return {name: _whole(value) for name, value in MessageToDict(message).items()}


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _whole(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def response_of(event: Event) -> pb.ExecuteResponse:
    """The event on the wire."""
    match event:
        case Decided():
            return pb.ExecuteResponse(chosen=_chosen(event))
        case Progress():
            progress = pb.ExecutionProgress(attempt=event.attempt, note=event.note)
            return pb.ExecuteResponse(progress=progress)
        case Partial():
            calls = [_struct(each) for each in event.tool_calls]
            partial = pb.PartialAnswer(attempt=event.attempt, text=event.text, tool_calls=calls)
            return pb.ExecuteResponse(partial=partial)
        case Final():
            return pb.ExecuteResponse(answer=_final(event))


def _chosen(event: Decided) -> pb.ArmChosen:
    return pb.ArmChosen(
        decision_id=str(event.decision_id),
        attempt=event.attempt,
        arm=arm_message(event.arm),
        reason=event.reason,
        accuracy=event.accuracy,
        cost_usd=event.cost_usd,
        failure=str(event.failure or ""),
    )


def _final(event: Final) -> pb.FinalAnswer:
    answer, usage = event.answer, event.usage
    return pb.FinalAnswer(
        decision_id=str(event.decision_id),
        attempt=event.attempt,
        said=_said(answer.said),
        others=map(_said, answer.others),
        extracted=answer.extracted,
        cut_short=answer.cut_short,
        attempts=map(_attempted, event.attempts),
        accuracy=None if math.isnan(event.accuracy) else event.accuracy,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_tokens=usage.cached_tokens,
        cost_usd=event.cost_usd,
        latency_s=event.latency_s,
    )


def _said(said: Said) -> pb.Said:
    calls = [_struct(each) for each in said.tool_calls]
    return pb.Said(text=said.text, finish_reason=said.finish_reason, tool_calls=calls)


def _attempted(attempted: Attempted) -> pb.ExecutedAttempt:
    return pb.ExecutedAttempt(
        arm=arm_message(attempted.arm),
        calls=len(attempted.calls),
        cost_usd=attempted.cost_usd,
        latency_s=attempted.latency_s,
        failure=str(attempted.failure or ""),
        evidence=None if attempted.evidence is None else _evidence(attempted.evidence),
    )


def _evidence(evidence: Evidence) -> router_pb2.Evidence:
    known = {name: getattr(evidence, name) for name in Evidence.__slots__}
    return router_pb2.Evidence(**known)


def _struct(plain: Mapping[str, Any]) -> Struct:
    return ParseDict(dict(plain), Struct())
