"""Chat completions and their chunks as OpenAI writes them, with what Leadline adds."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson

from router.errors import InvalidInput
from router.execution.calls import Said, Usage
from router.execution.events import Attempted, Final
from router.ids import time_of

_ID = "chatcmpl-"
DONE = b"data: [DONE]\n\n"


def completion_id(decision_id: UUID, attempt: int) -> str:
    """The id of an answer, by which feedback finds its decision and attempt."""
    return f"{_ID}{decision_id.hex}-{attempt}"


def read_completion_id(text: str, field: str) -> tuple[UUID, int]:
    """The decision and the attempt of an answer's id. Raises InvalidInput."""
    decision, _, attempt = text.removeprefix(_ID).partition("-")
    try:
        return UUID(decision), int(attempt or 0)
    except ValueError:
        raise InvalidInput(f"{text!r:.80} is no id of a completion", field=field) from None


def completion(final: Final, *, logprobs: bool = False) -> bytes:
    """A whole chat completion, with log-probabilities where they were asked for."""
    answers = (final.answer.said, *final.answer.others)
    return _json(
        {
            **_head(final.decision_id, final.attempt, final.arm.model, "chat.completion"),
            "choices": [
                _choice(index, said, logprobs=logprobs) for index, said in enumerate(answers)
            ],
            "usage": usage(final),
            "leadline": added(final),
        }
    )


def usage(final: Final) -> dict[str, Any]:
    """The tokens of all attempts together."""
    spent: Usage = final.usage
    return {
        "prompt_tokens": spent.input_tokens,
        "completion_tokens": spent.output_tokens,
        "total_tokens": spent.input_tokens + spent.output_tokens,
        "prompt_tokens_details": {"cached_tokens": spent.cached_tokens},
    }


def added(final: Final) -> dict[str, Any]:
    """What Leadline tells of an answer beyond OpenAI's fields."""
    evidence = final.answer.evidence
    return {
        "decision_id": str(final.decision_id),
        "attempt": final.attempt,
        "arm": final.arm.key,
        "cost_usd": final.cost_usd,
        "latency_s": final.latency_s,
        "accuracy": None if math.isnan(final.accuracy) else final.accuracy,
        "confidence": evidence.confidence,
        "verifier_score": evidence.verifier_score,
        "cut_short": final.answer.cut_short,
        "attempts": [_attempt(each) for each in final.attempts],
    }


def _attempt(attempted: Attempted) -> dict[str, Any]:
    return {
        "attempt": attempted.attempt,
        "arm": attempted.arm.key,
        "cost_usd": attempted.cost_usd,
        "latency_s": attempted.latency_s,
        "calls": len(attempted.calls),
        "failure": attempted.failure,
    }


def _head(decision_id: UUID, attempt: int, model: str, kind: str) -> dict[str, Any]:
    return {
        "id": completion_id(decision_id, attempt),
        "object": kind,
        "created": int(time_of(decision_id).timestamp()),
        "model": model,
    }


def _choice(index: int, said: Said, *, logprobs: bool) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": said.text if said.text or not said.tool_calls else None,
        "refusal": None,
    }
    if said.tool_calls:
        message["tool_calls"] = said.tool_calls
    return {
        "index": index,
        "message": message,
        "logprobs": _dumped(said.logprobs) if logprobs else None,
        "finish_reason": said.finish_reason,
    }


def _dumped(logprobs: Any) -> Any:
    dump = getattr(logprobs, "model_dump", None)
    return None if dump is None else dump()


def _json(value: Mapping[str, Any]) -> bytes:
    """The value as JSON; halves of characters, which some models write, stay escaped."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value).encode()


class Chunks:
    """Writes the chunks of one answer, each as an event of the stream."""

    def __init__(self, decision_id: UUID, attempt: int, model: str) -> None:
        self._head = _head(decision_id, attempt, model, "chat.completion.chunk")

    def delta(
        self, index: int, text: str = "", tool_calls: Sequence[Mapping[str, Any]] = ()
    ) -> bytes:
        """A piece of the answer of that index."""
        delta: dict[str, Any] = {"content": text} if text else {}
        if tool_calls:
            delta["tool_calls"] = tool_calls
        return self._chunk(choices=[_delta(index, delta)])

    def first(self, index: int) -> bytes:
        """What begins the answer of that index."""
        return self._chunk(choices=[_delta(index, {"role": "assistant", "content": ""})])

    def last(self, index: int, finish_reason: str) -> bytes:
        """What ends the answer of that index."""
        return self._chunk(choices=[_delta(index, {}, finish_reason)])

    def usage(self, final: Final) -> bytes:
        """The chunk of `stream_options.include_usage`, with what Leadline adds."""
        return self._chunk(choices=[], usage=usage(final), leadline=added(final))

    def _chunk(self, **fields: Any) -> bytes:
        return event({**self._head, **fields})


def _delta(index: int, delta: Mapping[str, Any], finish_reason: str | None = None) -> Any:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def event(value: Mapping[str, Any]) -> bytes:
    """A server-sent event."""
    return b"data: " + _json(value) + b"\n\n"


def comment(text: str) -> bytes:
    """A line that clients skip, and that shows proxies that the stream lives."""
    return b": " + " ".join(text.split()).encode() + b"\n\n"


def whole_calls(tool_calls: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Tool calls as one delta each, which must say its index."""
    return [{**call, "index": index} for index, call in enumerate(tool_calls)]
