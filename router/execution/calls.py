"""Calls: what is asked of a model and what came back, the same whatever the backend speaks.

Messages and tools keep the shape of OpenAI's chat completions, which callers send and
nearly every provider takes; nothing of them is read but their text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from router.types import Model

Message = Mapping[str, Any]
"""A chat message in OpenAI's shape: `role`, `content`, and what else the caller sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a caller asks of every call that is made for them; None leaves it to the provider.

    `response_format`, `tools`, `tool_choice` and all of `further` are passed through as they
    came.
    """

    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    max_output_tokens: int | None = None
    logprobs: bool = False
    response_format: Mapping[str, Any] | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: str | Mapping[str, Any] | None = None
    further: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request to a model.

    `samples` answers are asked for at once. `thought_tokens` is what the model may spend on
    its own reasoning before it answers, for models that the catalog says can.
    """

    model: Model
    messages: tuple[Message, ...]
    options: Options = field(default_factory=Options)
    samples: int = 1
    thought_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens as the provider billed them; `cached_tokens` are part of `input_tokens`."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
        )

    def cost_usd(self, model: Model) -> float:
        """What it costs at the model's prices, in dollars."""
        cached = model.cached_input_usd_per_mtok
        cached_price = model.input_usd_per_mtok if cached is None else cached
        fresh = self.input_tokens - self.cached_tokens
        micros = fresh * model.input_usd_per_mtok + self.cached_tokens * cached_price
        return (micros + self.output_tokens * model.output_usd_per_mtok) / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One answer as the model gave it.

    `confidence` is the mean log-probability of its tokens (<= 0), None where the provider
    does not tell. `tool_calls` keep OpenAI's shape, `logprobs` is as the library read it.
    """

    text: str
    finish_reason: str = "stop"
    confidence: float | None = None
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    logprobs: Any = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What a call brought: one answer for each sample, never none.

    `latency_s` runs from sending to the last token.
    """

    said: tuple[Said, ...]
    usage: Usage
    latency_s: float
    time_to_first_token_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of an answer that is being written.

    The last one of a stream has the `completion` that all of them make up, and no text.
    `tool_calls` are deltas in OpenAI's shape.
    """

    text: str = ""
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    completion: Completion | None = None


class Failure(StrEnum):
    """How a call failed; the word that outcomes have as their `error`."""

    RATE_LIMITED = "rate_limited"  # 429; the provider may say when to come again
    OVERLOADED = "overloaded"  # 500 and above
    REFUSED = "refused"  # 400 and such: what was asked is at fault, not the backend
    NOT_SET_UP = "not_set_up"  # 401 to 404, no endpoint: the operator must mend it
    UNREACHABLE = "unreachable"  # no connection
    BROKEN_OFF = "broken_off"  # the connection closed before the answer ended
    GARBAGE = "garbage"  # an answer that can't be read
    TIMEOUT = "timeout"  # no answer in time
    BUSY = "busy"  # Leadline's own bound on calls under way
    OPEN_CIRCUIT = "open_circuit"  # the backend failed too often of late
    ABANDONED = "abandoned"  # whoever asked has left; says nothing of the backend


@dataclass(frozen=True, slots=True, kw_only=True)
class CallMade:
    """One call as it went, retries each their own: for the log, the bill and the evidence."""

    model: str
    usage: Usage
    cost_usd: float
    latency_s: float
    time_to_first_token_s: float | None = None
    failure: Failure | None = None
