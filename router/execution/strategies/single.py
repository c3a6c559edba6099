"""One pass: the task as it came."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from router.execution.strategies.asking import ask, ask_aloud, plain, single_answer, was_cut
from router.execution.strategy import Answer, Caller, Task


class Single:
    """One call, and the answer that it brings; several where the caller wants a choice."""

    name: str = "single"

    async def run(self, task: Task, params: Mapping[str, Any], caller: Caller) -> Answer:  # noqa: ARG002
        """As Runnable says; it has no params."""
        prompt = plain(task)
        if task.samples == 1:
            completion = await ask_aloud(prompt, caller)
        else:
            completion = await ask(prompt, caller, samples=task.samples)
        said, *others = completion.said
        cut_short = was_cut(said, completion, prompt.options.max_output_tokens)
        answer = single_answer(task, said, cut_short=cut_short)
        return replace(answer, others=tuple(others)) if others else answer
