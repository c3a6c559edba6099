"""Words a call as the body of a chat completion request."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from router.execution.calls import Call
from router.types import Thinking

LEAST_BUDGET_TOKENS = 1_024
ANSWER_TOKENS = 4_096
"""What an answer may take beside a budget of thought where the call sets no limit."""

_EFFORTS = ((512, "low"), (2_048, "medium"))


def body(call: Call) -> dict[str, Any]:
    """The request's arguments, without those that were not set.

    A model that is told an effort takes neither temperature nor log-probabilities at its
    makers, nor does one that thinks within a budget; they are left out.
    """
    options, model = call.options, call.model
    said: dict[str, Any] = {
        **options.further,
        "model": model.endpoint_model or model.name,
        "messages": [dict(message) for message in call.messages],
        "seed": options.seed,
        "stop": list(options.stop) or None,
        "n": call.samples if call.samples > 1 else None,
        "response_format": options.response_format,
        "tools": list(options.tools) or None,
        "tool_choice": options.tool_choice,
    }
    if not thinks(call):
        said |= {"temperature": options.temperature, "top_p": options.top_p}
        said["logprobs"] = True if options.logprobs else None
    if not said.get("logprobs"):
        said["top_logprobs"] = None
    said |= _limits(call)
    return {name: value for name, value in said.items() if value is not None}


def thinks(call: Call) -> bool:
    """Whether the model thinks by itself in this call."""
    thinking = call.model.thinking
    return thinking is Thinking.EFFORT or (
        thinking is Thinking.BUDGET and call.thought_tokens is not None
    )


def effort(thought_tokens: int) -> str:
    """The effort that stands for so many tokens of thought."""
    return next((word for most, word in _EFFORTS if thought_tokens <= most), "high")


def _limits(call: Call) -> dict[str, Any]:
    """The bound on output tokens, thought included, and how much thought is wanted."""
    model, thought, most = call.model, call.thought_tokens, call.options.max_output_tokens
    if model.thinking is Thinking.EFFORT:
        limit = None if most is None else most + (thought or 0)
        word = None if thought is None else effort(thought)
        return {"max_completion_tokens": limit, "reasoning_effort": word}
    if model.thinking is Thinking.BUDGET and thought is not None:
        budget = max(thought, LEAST_BUDGET_TOKENS)
        told = {"type": "enabled", "budget_tokens": budget}
        return {"max_tokens": budget + (most or ANSWER_TOKENS), "extra_body": {"thinking": told}}
    host = urlsplit(model.endpoint).hostname or ""
    name = "max_completion_tokens" if host.endswith("openai.com") else "max_tokens"
    return {name: most}
