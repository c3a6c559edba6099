"""Reads completions off the wire, whole and in chunks; forgives what providers leave out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from router.execution.backend import backend_failed
from router.execution.calls import Call, Completion, Failure, Message, Said, Usage

CHARACTERS_A_TOKEN = 4
MOST_CHARACTERS = 1 << 19
"""The longest answer that is taken; a message on the wire holds it twice over in any script."""


def read(completion: Any, call: Call, latency_s: float) -> Completion:
    """A whole answer. Raises ValueError where it is none."""
    choices = getattr(completion, "choices", None)
    if not isinstance(choices, Sequence) or not choices:
        raise ValueError("the reply has no choices")
    said = tuple(_said(choice) for choice in choices[: call.samples])
    _check_length(sum(len(each.text) for each in said))
    return Completion(
        said=said,
        usage=usage_of(getattr(completion, "usage", None)) or guessed(call, said),
        latency_s=latency_s,
    )


def _check_length(characters: int) -> None:
    if characters > MOST_CHARACTERS:
        raise ValueError("the answer is too long")


def _said(choice: Any) -> Said:
    message = choice.message
    calls = getattr(message, "tool_calls", None) or ()
    return Said(
        text=message.content or "",
        finish_reason=getattr(choice, "finish_reason", None) or "stop",
        confidence=mean_logprob(_logprobs(choice)),
        tool_calls=tuple(each.model_dump(exclude_none=True) for each in calls),
        logprobs=getattr(choice, "logprobs", None),
    )


def usage_of(usage: Any) -> Usage | None:
    """What was billed, None where the provider does not tell."""
    sent, written = (getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens"))
    if not isinstance(sent, int) or not isinstance(written, int) or min(sent, written) < 0:
        return None
    cached = getattr(getattr(usage, "prompt_tokens_details", None), "cached_tokens", None)
    cached = cached if isinstance(cached, int) else 0
    return Usage(input_tokens=sent, output_tokens=written, cached_tokens=min(max(cached, 0), sent))


def guessed(call: Call, said: Iterable[Said] = ()) -> Usage:
    """About what was spent where nobody tells: four characters a token."""
    written = sum(_tokens(each.text) + _tokens(str(each.tool_calls or "")) for each in said)
    return Usage(input_tokens=guessed_input(call.messages), output_tokens=written)


def guessed_input(messages: Sequence[Message]) -> int:
    """About how many tokens messages have."""
    return sum(_tokens(text_of(message.get("content"))) + 4 for message in messages)


def text_of(content: Any) -> str:
    """The text of a message's content, whole or in parts."""
    if isinstance(content, str) or content is None:
        return content or ""
    parts = content if isinstance(content, Sequence) else ()
    return "".join(str(part.get("text") or "") for part in parts if isinstance(part, Mapping))


def _tokens(text: str) -> int:
    return math.ceil(len(text) / CHARACTERS_A_TOKEN)


def _logprobs(choice: Any) -> list[float]:
    tokens = getattr(getattr(choice, "logprobs", None), "content", None) or ()
    values = (getattr(token, "logprob", None) for token in tokens)
    return [float(value) for value in values if isinstance(value, int | float)]


def mean_logprob(values: Sequence[float]) -> float | None:
    """The mean of log-probabilities, None of none."""
    finite = [min(value, 0.0) for value in values if math.isfinite(value)]
    return math.fsum(finite) / len(finite) if finite else None


@dataclass(slots=True)
class Writing:
    """An answer as its chunks come in."""

    call: Call
    text: list[str] = field(default_factory=list)
    calls: dict[int, dict[str, Any]] = field(default_factory=dict)
    logprobs: list[float] = field(default_factory=list)
    finish_reason: str = ""
    usage: Usage | None = None
    first_token_s: float | None = None
    characters: int = 0

    def add(self, chunk: Any, elapsed_s: float) -> tuple[str, tuple[Mapping[str, Any], ...]]:
        """Takes a chunk in; returns its text and tool calls.

        Raises ValueError where it is none, BackendFailed where it says that the rest fails.
        """
        self.usage = usage_of(getattr(chunk, "usage", None)) or self.usage
        if getattr(chunk, "error", None):
            raise backend_failed(Failure.OVERLOADED, self.call.model.name, usage=self.spent)
        if getattr(chunk, "choices", None) is None:
            raise ValueError("the chunk has no choices")
        text, calls = "", list[Mapping[str, Any]]()
        for choice in chunk.choices:
            if (getattr(choice, "index", None) or 0) == 0:
                said, called = self._add(choice, elapsed_s)
                text, calls = text + said, calls + called
        self.text.append(text)
        self.characters += len(text) + sum(len(str(each)) for each in calls)
        _check_length(self.characters)
        return text, tuple(calls)

    def _add(self, choice: Any, elapsed_s: float) -> tuple[str, list[Mapping[str, Any]]]:
        delta = getattr(choice, "delta", None)
        text = getattr(delta, "content", None) or ""
        calls = [self._call(each) for each in getattr(delta, "tool_calls", None) or ()]
        thought = getattr(delta, "reasoning_content", None) or getattr(delta, "reasoning", None)
        if self.first_token_s is None and (text or calls or thought):
            self.first_token_s = elapsed_s
        self.logprobs += _logprobs(choice)
        self.finish_reason = getattr(choice, "finish_reason", None) or self.finish_reason
        return text, calls

    def _call(self, delta: Any) -> Mapping[str, Any]:
        """Joins a tool call's delta to what came before it."""
        plain: dict[str, Any] = delta.model_dump(exclude_none=True)
        known = self.calls.setdefault(plain.get("index") or 0, {"type": "function"})
        known |= {name: plain[name] for name in ("id", "type") if plain.get(name)}
        function = known.setdefault("function", {"name": "", "arguments": ""})
        for name, part in (plain.get("function") or {}).items():
            function[name] = function.get(name, "") + part
        return plain

    @property
    def is_nothing(self) -> bool:
        """Whether nothing came, and nothing was billed."""
        return not self.characters and self.usage is None

    @property
    def said(self) -> Said:
        """The answer so far."""
        return Said(
            text="".join(self.text),
            finish_reason=self.finish_reason or "stop",
            confidence=mean_logprob(self.logprobs),
            tool_calls=tuple(self.calls[index] for index in sorted(self.calls)),
        )

    @property
    def spent(self) -> Usage:
        """What it used so far: billed, or else about."""
        return self.usage or guessed(self.call, (self.said,))

    def completion(self, latency_s: float) -> Completion:
        """The whole answer, once it has ended."""
        return Completion(
            said=(self.said,),
            usage=self.spent,
            latency_s=latency_s,
            time_to_first_token_s=self.first_token_s,
        )
