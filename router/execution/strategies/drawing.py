"""Samples of one prompt: by one call that asks for several, or side by side."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from router.execution.backend import BackendFailed
from router.execution.calls import Failure, Options, Said
from router.execution.strategies.asking import Prompt, ask
from router.execution.strategy import AllowanceSpent, Caller

MOST_SIDE_BY_SIDE = 10

SAMPLING_TEMPERATURE = 0.7
"""Stands in for a temperature of 0, at which every sample would be the same."""


class Drawing:
    """Draws samples of one prompt; `drawn` counts those that were drawn with its seed before."""

    def __init__(self, prompt: Prompt, caller: Caller) -> None:
        self._prompt = replace(prompt, options=diverse(prompt.options))
        self._caller, self._one_by_one = caller, False

    async def more(self, count: int, drawn: int = 0) -> list[Said]:
        """At least one sample and at most `count`. Raises as Caller.ask does."""
        if count > 1 and self._one_by_one:
            return await self._side_by_side(drawn, min(count, MOST_SIDE_BY_SIDE))
        try:
            completion = await ask(self._at(drawn), self._caller, samples=count)
        except BackendFailed as error:
            if count == 1 or error.failure is not Failure.REFUSED:
                raise
            self._one_by_one = True
            return await self._side_by_side(drawn, min(count, MOST_SIDE_BY_SIDE))
        self._one_by_one = len(completion.said) < count
        return list(completion.said[:count])

    async def all_of(self, count: int, drawn: int = 0) -> list[Said]:
        """So many samples, or as many as there are before something fails; at least one."""
        said = await self.more(count, drawn)
        try:
            while len(said) < count:
                said += await self.more(count - len(said), drawn + len(said))
        except (AllowanceSpent, BackendFailed):
            return said
        return said

    async def _side_by_side(self, drawn: int, count: int) -> list[Said]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._one(drawn + place)) for place in range(count)]
        made = [task.result() for task in tasks]
        said = [each for each in made if isinstance(each, Said)]
        for each in made:
            if not said and not isinstance(each, Said):
                raise each
        return said

    async def _one(self, drawn: int) -> Said | AllowanceSpent | BackendFailed:
        try:
            return (await ask(self._at(drawn), self._caller)).said[0]
        except (AllowanceSpent, BackendFailed) as error:
            return error

    def _at(self, drawn: int) -> Prompt:
        return seeded(self._prompt, drawn)


def seeded(prompt: Prompt, number: int) -> Prompt:
    """The prompt with a seed of its own, or else the same samples would come again."""
    seed = prompt.options.seed
    if seed is None or not number:
        return prompt
    return replace(prompt, options=replace(prompt.options, seed=seed + number))


def diverse(options: Options) -> Options:
    """The options with a temperature at which samples differ."""
    if options.temperature != 0:
        return options
    return replace(options, temperature=SAMPLING_TEMPERATURE)
