"""Chat completions as LangChain's messages, with what Leadline tells of each answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, AIMessageChunk, InvalidToolCall, ToolCall
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.output_parsers.openai_tools import make_invalid_tool_call, parse_tool_call
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

Completion = Mapping[str, Any]
"""A chat completion, or a chunk of one, in OpenAI's shape."""


def result(completion: Completion) -> ChatResult:
    """A whole completion, one generation for each choice."""
    told = metadata(completion)
    generations = [_generation(completion, choice, told) for choice in completion["choices"]]
    return ChatResult(generations=generations, llm_output=told)


def _generation(
    completion: Completion, choice: Mapping[str, Any], told: Mapping[str, Any]
) -> ChatGeneration:
    said, finish_reason = choice["message"], choice["finish_reason"]
    calls, invalid = _tool_calls(said.get("tool_calls") or ())
    message = AIMessage(
        content=said.get("content") or "",
        id=completion["id"],
        tool_calls=calls,
        invalid_tool_calls=invalid,
        usage_metadata=_usage(completion.get("usage")),
        response_metadata={**told, "finish_reason": finish_reason},
    )
    return ChatGeneration(message=message, generation_info={"finish_reason": finish_reason})


def _tool_calls(raw: Sequence[Any]) -> tuple[list[ToolCall], list[InvalidToolCall]]:
    calls: list[ToolCall] = []
    invalid: list[InvalidToolCall] = []
    for each in raw:
        try:
            parsed: Any = parse_tool_call(dict(each), return_id=True)
            calls.append(parsed)
        except OutputParserException as error:
            invalid.append(make_invalid_tool_call(dict(each), str(error)))
    return calls, invalid


def chunk(completion: Completion) -> ChatGenerationChunk:
    """A chunk of a stream; the last one has usage and what Leadline tells."""
    choice = next(iter(completion.get("choices") or ()), None)
    delta: Mapping[str, Any] = choice["delta"] if choice else {}
    finish_reason = choice["finish_reason"] if choice else None
    told = metadata(completion) if completion.get("leadline") else {}
    if finish_reason:
        told["finish_reason"] = finish_reason
    message = AIMessageChunk(
        content=delta.get("content") or "",
        id=completion["id"],
        tool_call_chunks=[_call_chunk(call) for call in delta.get("tool_calls") or ()],
        usage_metadata=_usage(completion.get("usage")),
        response_metadata=told,
    )
    return ChatGenerationChunk(message=message)


def _call_chunk(call: Mapping[str, Any]) -> Any:
    function = call.get("function") or {}
    return tool_call_chunk(
        name=function.get("name"),
        args=function.get("arguments"),
        id=call.get("id"),
        index=call.get("index"),
    )


def _usage(usage: Mapping[str, Any] | None) -> UsageMetadata | None:
    if not usage:
        return None
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return UsageMetadata(
        input_tokens=usage["prompt_tokens"],
        output_tokens=usage["completion_tokens"],
        total_tokens=usage["total_tokens"],
        input_token_details={"cache_read": cached},
    )


def metadata(completion: Completion) -> dict[str, Any]:
    """The model's name, the completion's id, and Leadline's own figures under their names."""
    return {
        "model_name": completion["model"],
        "completion_id": completion["id"],
        **(completion.get("leadline") or {}),
    }
