"""What strategies share: prompts, one call streamed or not, and the answer that it makes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from router.execution.answers import Reader, reader
from router.execution.backend import BackendFailed
from router.execution.calls import Completion, Failure, Message, Options, Said
from router.execution.strategy import Answer, Caller, Task
from router.types import Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What one call asks: messages, options, and thought of the model's own."""

    messages: tuple[Message, ...]
    options: Options
    thought_tokens: int | None = None


def plain(task: Task) -> Prompt:
    """The task as it came; log-probabilities are asked for, which are its evidence."""
    return Prompt(messages=task.messages, options=replace(task.options, logprobs=True))


async def ask(prompt: Prompt, caller: Caller, *, samples: int = 1) -> Completion:
    """One call. Raises as Caller.ask does."""
    return await caller.ask(
        prompt.messages, prompt.options, samples=samples, thought_tokens=prompt.thought_tokens
    )


async def ask_aloud(prompt: Prompt, caller: Caller) -> Completion:
    """One call that is passed on as it is written, where somebody reads it."""
    if not caller.streams:
        return await ask(prompt, caller)
    pieces = caller.stream(prompt.messages, prompt.options, thought_tokens=prompt.thought_tokens)
    async with aclosing(pieces):
        async for piece in pieces:
            if piece.completion is not None:
                return piece.completion
            caller.write(piece)
    raise BackendFailed(
        "the stream ended before the answer did; try again", failure=Failure.BROKEN_OFF
    )


def single_answer(task: Task, said: Said, *, cut_short: bool = False) -> Answer:
    """The answer of one pass, whose evidence is its mean log-probability."""
    return Answer(
        said=said,
        evidence=Evidence(confidence=said.confidence),
        extracted=extracted(said, reader(task.answer_kind)),
        cut_short=cut_short,
    )


def extracted(said: Said, by: Reader) -> str | None:
    """The answer alone: that of the text, or the tool calls as JSON without their ids."""
    if not said.tool_calls:
        return by.read(said.text)
    called = [_called(call.get("function") or {}) for call in said.tool_calls]
    return json.dumps(called, sort_keys=True)


def _called(function: object) -> object:
    if not isinstance(function, dict):
        return function
    arguments = function.get("arguments")
    try:
        return [function.get("name"), json.loads(arguments or "{}")]
    except (TypeError, ValueError, RecursionError):
        return [function.get("name"), arguments]


def was_cut(said: Said, completion: Completion, asked: int | None) -> bool:
    """Whether an answer ended at fewer tokens than were asked for: at the allowance's end."""
    spent = completion.usage.output_tokens
    return said.finish_reason == "length" and (asked is None or spent < asked)


def with_system(messages: Sequence[Message], text: str) -> tuple[Message, ...]:
    """The messages with one more instruction: in the system message, where there is one."""
    first, rest = messages[0], tuple(messages[1:])
    if first.get("role") in {"system", "developer"} and isinstance(first.get("content"), str):
        return ({**first, "content": f"{first['content']}\n\n{text}"}, *rest)
    return ({"role": "system", "content": text}, *messages)


def least(*limits: int | None) -> int | None:
    """The least of some limits, None for no limit at all."""
    return min((limit for limit in limits if limit is not None), default=None)


def wants_form(options: Options) -> bool:
    """Whether the whole answer must be of some form, so that it has no room for thoughts."""
    kind = (options.response_format or {}).get("type", "text")
    return bool(options.tools) or kind != "text"
