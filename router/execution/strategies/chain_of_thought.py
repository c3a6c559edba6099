"""Thought before the answer, within a budget of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from router.execution.answers import marked
from router.execution.backend import BackendFailed
from router.execution.calls import Message, Options, Piece, Said
from router.execution.strategies.asking import (
    Prompt,
    ask,
    ask_aloud,
    least,
    plain,
    single_answer,
    wants_form,
    was_cut,
    with_system,
)
from router.execution.strategies.params import one_of, whole
from router.execution.strategy import AllowanceSpent, Answer, Caller, Task

TOKENS, MOST_TOKENS = 256, 65_536
ANSWER_TOKENS = 256
"""What an answer may take after the thought."""

STYLES: Mapping[str, str] = MappingProxyType(
    {
        "standard": "Think step by step, then end with a line 'Answer: ' and the answer alone.",
        "concise": "Think step by step, a few words for each step, then end with a line "
        "'Answer: ' and the answer alone.",
    }
)
CONCLUDE = "Time is up. Give the final answer now, without another thought."
BREAK = "\n\n"


def thoughtful(task: Task, params: Mapping[str, Any], caller: Caller) -> Prompt:
    """The task with thought before the answer, in one call.

    `tokens` is the budget, 256 where none is set: the model's own reasoning has it where it
    reasons, or else thought and answer together. `style` is standard or concise.
    """
    tokens, style = whole(params, "tokens", TOKENS, MOST_TOKENS), one_of(params, "style", STYLES)
    asked = plain(task)
    if caller.reasons:
        return replace(asked, thought_tokens=tokens)
    if wants_form(task.options):
        return asked
    limit = least(tokens, task.options.max_output_tokens)
    options = replace(asked.options, max_output_tokens=limit)
    return Prompt(messages=with_system(task.messages, STYLES[style]), options=options)


class ChainOfThought:
    """Thinks, then answers: in one call, or in two where the answer must be of some form.

    A thought that the budget cut off is followed by a call for the answer alone.
    """

    name: str = "chain_of_thought"

    async def run(self, task: Task, params: Mapping[str, Any], caller: Caller) -> Answer:
        """As Runnable says. Params: `tokens`, `style`."""
        prompt = thoughtful(task, params, caller)
        formed = wants_form(task.options) and not caller.reasons
        if formed and caller.left().calls >= 2:
            return await _formed(task, params, caller)
        completion = await ask_aloud(prompt, caller)
        said = completion.said[0]
        if formed or said.finish_reason != "length" or marked(said.text) is not None:
            cut_short = was_cut(said, completion, prompt.options.max_output_tokens)
            return single_answer(task, said, cut_short=cut_short)
        limit = least(ANSWER_TOKENS, task.options.max_output_tokens)
        last = _concluding(prompt.messages, said, replace(task.options, max_output_tokens=limit))
        try:
            if caller.streams:
                caller.write(Piece(text=BREAK))
            answer = (await ask_aloud(last, caller)).said[0]
        except (AllowanceSpent, BackendFailed):
            return single_answer(task, said, cut_short=True)
        return single_answer(task, replace(answer, text=f"{said.text}{BREAK}{answer.text}"))


async def _formed(task: Task, params: Mapping[str, Any], caller: Caller) -> Answer:
    """Thinks aside in free form, then answers in the form that is wanted."""
    free = replace(task.options, response_format=None, tools=(), tool_choice=None)
    prompt = thoughtful(replace(task, options=free), params, caller)
    thought = (await ask(prompt, caller)).said[0]
    last = _concluding(task.messages, thought, task.options)
    completion = await ask_aloud(last, caller)
    said = completion.said[0]
    cut_short = was_cut(said, completion, task.options.max_output_tokens)
    return single_answer(task, said, cut_short=cut_short)


def _concluding(messages: tuple[Message, ...], said: Said, options: Options) -> Prompt:
    thought = {"role": "assistant", "content": said.text}
    ask_now = {"role": "user", "content": CONCLUDE}
    return Prompt(messages=(*messages, thought, ask_now), options=replace(options, logprobs=True))
