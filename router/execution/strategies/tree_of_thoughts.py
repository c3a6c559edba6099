"""A beam search over steps of thought, each level judged by the model itself."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from router.execution.answers import marked, reader
from router.execution.backend import BackendFailed
from router.execution.calls import Options, Said
from router.execution.strategies.asking import (
    Prompt,
    extracted,
    least,
    plain,
    wants_form,
    with_system,
)
from router.execution.strategies.drawing import draw
from router.execution.strategies.params import whole
from router.execution.strategy import AllowanceSpent, Answer, Caller, Task
from router.execution.verifiers.verdict import texts
from router.types import Evidence

DEPTH, WIDTH, BEAM, TOKENS = 3, 5, 2, 256
MOST_DEPTH, MOST_WIDTH, MOST_TOKENS = 10, 20, 65_536
VALUE_TOKENS = 128

STEP = (
    "Solve the task step by step, but write only the next step and then stop. Once the task is "
    "solved, end with a line 'Answer: ' and the answer alone."
)
GO_ON = "Go on: write only the next step."
FINISH = "Finish now: end with a line 'Answer: ' and the answer alone, or in the form asked for."
VALUE = (
    "You judge ways of solving a task that are not finished yet. For each of them write one line "
    "'number: score' with a score from 0 (leads nowhere) to 10 (surely right), and nothing else."
)
_VALUE = re.compile(r"^\D{0,20}(\d{1,3})\s*[:=.)]\s*\**(\d{1,2}(?:\.\d{1,3})?)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Path:
    """Steps of thought so far; `value` in [0, 1], None where nobody judged it."""

    steps: tuple[Said, ...] = ()
    value: float | None = None

    @property
    def is_done(self) -> bool:
        """Whether its last step has an answer."""
        return bool(self.steps) and _has_answer(self.steps[-1])

    @property
    def text(self) -> str:
        """All steps as one text."""
        return "\n".join(step.text for step in self.steps)


class TreeOfThoughts:
    """Widens `beam` paths by steps, keeps the best by a value prompt, and ends with an answer.

    A level spends `width` answers of the model: width - 1 steps, and one that values them all
    together. With the same seed, and a backend that heeds it, it goes the same way.
    """

    name = "tree_of_thoughts"

    async def run(self, task: Task, params: Mapping[str, Any], caller: Caller) -> Answer:
        """As Runnable says.

        Params: `depth`, levels; `width`, answers a level; `beam`, paths that are kept;
        `tokens`, at most for a step.
        """
        shape = _Shape.of(params)
        search = _Search(task, shape, caller)
        paths, cut_short = [_Path()], False
        try:
            for level in range(shape.depth):
                if all(path.is_done for path in paths):
                    break
                caller.tell(f"level {level + 1} of at most {shape.depth}")
                paths = await search.level(paths, level)
                paths = await search.valued(paths, last=level == shape.depth - 1)
        except (AllowanceSpent, BackendFailed):
            if not paths[0].steps:
                raise
            cut_short = True
        return _answer(task, paths, cut_short=cut_short or search.cut_short)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    depth: int
    width: int
    beam: int
    tokens: int

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> _Shape:
        return cls(
            depth=whole(params, "depth", DEPTH, MOST_DEPTH),
            width=whole(params, "width", WIDTH, MOST_WIDTH),
            beam=whole(params, "beam", BEAM, MOST_WIDTH),
            tokens=whole(params, "tokens", TOKENS, MOST_TOKENS),
        )


class _Search:
    """Widens and judges paths."""

    def __init__(self, task: Task, shape: _Shape, caller: Caller) -> None:
        self._task, self._shape, self._caller = task, shape, caller
        self._drawn = 0
        self.cut_short = False

    async def level(self, paths: Sequence[_Path], level: int) -> list[_Path]:
        """Every path one step further, those that are done as they are."""
        open_paths = [path for path in paths if not path.is_done]
        last = level == self._shape.depth - 1
        steps = max(1, self._shape.width - 1)
        shares = [len(range(place, steps, len(open_paths))) for place in range(len(open_paths))]
        async with asyncio.TaskGroup() as group:
            tasks = []
            for path, count in zip(open_paths, shares, strict=True):
                if count:
                    tasks.append(
                        group.create_task(self._widened(path, count, self._drawn, last=last))
                    )
                    self._drawn += count
        made = [task.result() for task in tasks]
        wider = [path for each in made if isinstance(each, list) for path in each]
        if not wider:
            raise next(each for each in made if not isinstance(each, list))
        return [*(path for path in paths if path.is_done), *wider]

    async def _widened(
        self, path: _Path, count: int, drawn: int, *, last: bool
    ) -> list[_Path] | AllowanceSpent | BackendFailed:
        try:
            said = await draw(self._prompt(path, last=last), self._caller, count, drawn)
        except (AllowanceSpent, BackendFailed) as error:
            self.cut_short = True
            return error
        self.cut_short |= len(said) < count
        return [_Path(steps=(*path.steps, each)) for each in said]

    def _prompt(self, path: _Path, *, last: bool) -> Prompt:
        base, form = plain(self._task), wants_form(self._task.options)
        free = replace(base.options, response_format=None, tools=(), tool_choice=None)
        options = base.options if last or not form else free
        if not (last and form):
            limit = least(self._shape.tokens, options.max_output_tokens)
            options = replace(options, max_output_tokens=limit)
        messages = with_system(base.messages, STEP)
        if path.steps:
            thought = {"role": "assistant", "content": path.text}
            messages = (*messages, thought, {"role": "user", "content": FINISH if last else GO_ON})
        return replace(base, messages=messages, options=options)

    async def valued(self, paths: Sequence[_Path], *, last: bool) -> list[_Path]:
        """The best paths first: `beam` of them, all where they are the last."""
        keep = len(paths) if last else self._shape.beam
        if len(paths) < 2 or self._shape.width < 2:
            return list(paths)[:keep]
        try:
            values = await self._values(paths)
        except (AllowanceSpent, BackendFailed):
            self.cut_short = True
            values = [None] * len(paths)
        judged = [replace(path, value=each) for path, each in zip(paths, values, strict=True)]
        return sorted(judged, key=_rank, reverse=True)[:keep]

    async def _values(self, paths: Sequence[_Path]) -> list[float | None]:
        ways = "\n\n".join(f"Way {place + 1}:\n{path.text}" for place, path in enumerate(paths))
        asked = f"{texts(self._task.messages)}\n\n{ways}"
        messages = ({"role": "system", "content": VALUE}, {"role": "user", "content": asked})
        seed = self._task.options.seed
        options = Options(temperature=0.0, seed=seed, max_output_tokens=VALUE_TOKENS)
        made = await self._caller.ask(messages, options)
        return values(made.said[0].text, len(paths))


def values(text: str, count: int) -> list[float | None]:
    """The scores of so many ways as shares, None for one that the judge left out."""
    found = {int(place): float(score) / 10 for place, score in _VALUE.findall(text)}
    scores = [found.get(place + 1) for place in range(count)]
    return [score if score is not None and score <= 1 else None for score in scores]


def _rank(path: _Path) -> tuple[float, float]:
    confidence = path.steps[-1].confidence
    return (
        -1.0 if path.value is None else path.value,
        float("-inf") if confidence is None else confidence,
    )


def _has_answer(said: Said) -> bool:
    return bool(said.tool_calls) or marked(said.text) is not None


def _answer(task: Task, paths: Sequence[_Path], *, cut_short: bool) -> Answer:
    """The best path that is done, with the share of paths that came to the same answer."""
    by = reader(task.answer_kind)
    best = next((path for path in paths if path.is_done), paths[0])
    answers = [extracted(path.steps[-1], by) for path in paths]
    answer = extracted(best.steps[-1], by)
    same = [each is not None and answer is not None and by.same(each, answer) for each in answers]
    form = wants_form(task.options)
    said = best.steps[-1] if form else replace(best.steps[-1], text=best.text)
    return Answer(
        said=said,
        evidence=Evidence(confidence=sum(same) / len(same), verifier_score=best.value),
        extracted=answer,
        cut_short=cut_short,
    )
