"""Samples of one prompt, each with luck of its own."""

from __future__ import annotations

from dataclasses import replace

from router.execution.calls import Options, Said
from router.execution.strategies.asking import Prompt, ask
from router.execution.strategy import AllowanceSpent, Caller

SAMPLING_TEMPERATURE = 0.7
"""Stands in for a temperature of 0, at which every sample would be the same."""


async def draw(prompt: Prompt, caller: Caller, count: int, drawn: int = 0) -> list[Said]:
    """At least one sample and at most `count`, where so many were drawn before.

    Fewer come where the allowance has no room for them all, or the backend gives no more.
    Raises as Caller.ask does.
    """
    options = diverse(prompt.options)
    if options.seed is not None:
        options = replace(options, seed=options.seed + drawn)
    own = replace(prompt, options=options)
    while count > 1:
        try:
            return list((await ask(own, caller, samples=count)).said[:count])
        except AllowanceSpent:
            count //= 2
    return list((await ask(own, caller)).said[:1])


def diverse(options: Options) -> Options:
    """The options with a temperature at which samples differ."""
    if options.temperature != 0:
        return options
    return replace(options, temperature=SAMPLING_TEMPERATURE)
