"""The OpenAI wire format of the simulated provider: replies as they are written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from router.simulation.answering import Reply, Sample
from router.simulation.api import ChatRequest
from router.simulation.fleet import FLEET
from router.simulation.shaping import Shaped, shaped

NOTICE = "simulated: invented models with drawn answers, tokens, latency and confidence"
DONE = b"data: [DONE]\n\n"


def write_chat(request: ChatRequest, reply: Reply, *, number: int, created: int) -> bytes:
    """The chat completion as JSON."""
    head = _head(request, "chat.completion", number, created)
    choices = [_choice(request, index, each) for index, each in enumerate(reply.samples)]
    return orjson.dumps(head | {"choices": choices, "usage": _usage(request, reply)})


def write_chunks(
    request: ChatRequest, reply: Reply, *, number: int, created: int
) -> Iterator[bytes]:
    """The chat completion as server-sent events: a role, its parts, why it ended, its usage."""
    head = _head(request, "chat.completion.chunk", number, created)
    if request.includes_usage:
        head["usage"] = None
    for index, sample in enumerate(reply.samples):
        said = shaped(request, sample.content)
        yield _event(head, index, {"role": "assistant", "content": None if said.tool else ""})
        for delta, token in _deltas(said):
            logprobs = _logprobs([token], sample) if request.logprobs and token else None
            yield _event(head, index, delta, logprobs=logprobs)
        yield _event(head, index, {}, finish_reason=said.finish_reason)
    if request.includes_usage:
        yield _data(head | {"choices": [], "usage": _usage(request, reply)})
    yield DONE


def write_models() -> bytes:
    """The list of models, which says that they are simulated."""
    models = [
        {
            "id": item.model.name,
            "object": "model",
            "created": 0,
            "owned_by": "leadline-simulation",
            "description": NOTICE,
        }
        for item in FLEET
    ]
    return orjson.dumps({"object": "list", "data": models})


def _head(request: ChatRequest, kind: str, number: int, created: int) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-simulated-{number}",
        "object": kind,
        "created": created,
        "model": request.model,
        "system_fingerprint": "simulated",
    }


def _usage(request: ChatRequest, reply: Reply) -> dict[str, Any]:
    output_tokens = sum(sample.output_tokens for sample in reply.samples)
    return {
        "prompt_tokens": request.prompt_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": request.prompt_tokens + output_tokens,
    }


def _choice(request: ChatRequest, index: int, sample: Sample) -> dict[str, Any]:
    said = shaped(request, sample.content)
    content = None if said.tool else said.text
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
    if said.tool:
        message["tool_calls"] = [_tool_call(said.tool, said.arguments)]
    return {
        "index": index,
        "message": message,
        "finish_reason": said.finish_reason,
        "logprobs": _logprobs(_tokens(said.text), sample) if request.logprobs else None,
    }


def _deltas(said: Shaped) -> Iterator[tuple[dict[str, Any], str]]:
    """Each part of a reply, with the token of text that it is."""
    if not said.tool:
        yield from (({"content": token}, token) for token in _tokens(said.text))
        return
    yield {"tool_calls": [{"index": 0, **_tool_call(said.tool, "")}]}, ""
    half = len(said.arguments) // 2
    for part in (said.arguments[:half], said.arguments[half:]):
        yield {"tool_calls": [{"index": 0, "function": {"arguments": part}}]}, ""


def _tool_call(name: str, arguments: str) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": f"call_{name}", "type": "function", "function": function}


def _event(
    head: dict[str, Any],
    index: int,
    delta: dict[str, Any],
    *,
    logprobs: dict[str, Any] | None = None,
    finish_reason: str | None = None,
) -> bytes:
    choice = {
        "index": index,
        "delta": delta,
        "logprobs": logprobs,
        "finish_reason": finish_reason,
    }
    return _data(head | {"choices": [choice]})


def _data(body: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"


def _tokens(text: str) -> list[str]:
    return re.findall(r"\s*\S+", text)


def _logprobs(tokens: Sequence[str], sample: Sample) -> dict[str, Any]:
    return {
        "content": [
            {"token": token, "logprob": sample.confidence, "bytes": None, "top_logprobs": []}
            for token in tokens
        ],
        "refusal": None,
    }
