"""Several samples of one query, and a vote on their answers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Self

import numpy as np

from router.execution.answers import reader
from router.execution.backend import BackendFailed
from router.execution.calls import Failure, Options, Said
from router.execution.strategies.asking import Prompt, ask, plain
from router.execution.strategies.ballot import Ballot
from router.execution.strategies.chain_of_thought import thoughtful
from router.execution.strategies.params import one_of, share, switch, whole
from router.execution.strategy import AllowanceSpent, Answer, Caller, Task
from router.policy.embedding import Embedder
from router.policy.sampling import Agreement, FixedSamples, SamplingRule, Votes
from router.types import Evidence, Strategy

SAMPLES, MOST_SAMPLES = 5, 128
MOST_SIDE_BY_SIDE = 10
THRESHOLD = 0.95

SAMPLING_TEMPERATURE = 0.7
"""Stands in for a temperature of 0, at which every sample would be the same."""

BASES = MappingProxyType({Strategy.CHAIN_OF_THOUGHT.value: thoughtful, Strategy.SINGLE.value: None})


class SelfConsistency:
    """Draws samples until a rule says that the vote is clear enough.

    Samples are drawn together as far as the rule needs them in any case, so that none is
    drawn for nothing: by one call with `n`, or side by side where that brings fewer.
    """

    name = "self_consistency"

    def __init__(
        self, *, rule: SamplingRule | None = None, embedder: Embedder | None = None
    ) -> None:
        self._rule, self._embedder = rule, embedder

    def by(self, rule: SamplingRule | None = None, embedder: Embedder | None = None) -> Self:
        """The same, with a rule for its adaptive arms and an embedder for free-form answers."""
        return type(self)(rule=rule or self._rule, embedder=embedder or self._embedder)

    async def run(self, task: Task, params: Mapping[str, Any], caller: Caller) -> Answer:
        """As Runnable says.

        Params: `samples`, at most so many; `base`, chain_of_thought (with its params) or
        single; `adaptive`, to stop by the rule, or else where the leader is ahead of the
        runner-up with the probability `threshold`.
        """
        most = whole(params, "samples", SAMPLES, MOST_SAMPLES)
        rule = self._rule_of(params, most)
        drawing = _Drawing(_prompt(task, params, caller), caller)
        ballot, cut_short = Ballot(reader(task.answer_kind), self._embedder), False
        try:
            while len(ballot) < most and not (len(ballot) and rule.enough(ballot.votes)):
                ballot.add(await drawing.more(len(ballot), least_more(rule, ballot.votes, most)))
                caller.tell(f"{len(ballot)} of at most {most} samples")
        except (AllowanceSpent, BackendFailed):
            if not len(ballot):
                raise
            cut_short = True
        return _answer(ballot, task.samples, cut_short=cut_short)

    def _rule_of(self, params: Mapping[str, Any], most: int) -> SamplingRule:
        if not switch(params, "adaptive"):
            return FixedSamples(samples=most)
        return self._rule or Agreement(threshold=share(params, "threshold", THRESHOLD), most=most)


def least_more(rule: SamplingRule, votes: Votes, most: int) -> int:
    """The fewest more samples with which the rule may be content, however they vote."""
    drawn, leader, second = (int(each) for each in (votes.drawn, votes.leader, votes.runner_up))
    for more in range(1, most - drawn):
        added = np.indices((more + 1, more + 1)).reshape(2, -1)
        added = added[:, added.sum(axis=0) <= more]
        one, two = leader + added[0], second + added[1]
        after = Votes(
            drawn=np.full(one.shape, drawn + more),
            leader=np.maximum(one, two),
            runner_up=np.minimum(one, two),
        )
        if rule.enough(after).any():
            return more
    return most - drawn


class _Drawing:
    """Draws samples of one prompt."""

    def __init__(self, prompt: Prompt, caller: Caller) -> None:
        self._prompt, self._caller = prompt, caller
        self._one_by_one = False

    async def more(self, drawn: int, count: int) -> list[Said]:
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
        """The prompt with a seed of its own, or else the same samples would come again."""
        options = self._prompt.options
        if options.seed is None or not drawn:
            return self._prompt
        return replace(self._prompt, options=replace(options, seed=options.seed + drawn))


def _prompt(task: Task, params: Mapping[str, Any], caller: Caller) -> Prompt:
    base = BASES[one_of(params, "base", BASES)]
    prompt = plain(task) if base is None else base(task, params, caller)
    return replace(prompt, options=_diverse(prompt.options))


def _diverse(options: Options) -> Options:
    if options.temperature != 0:
        return options
    return replace(options, temperature=SAMPLING_TEMPERATURE)


def _answer(ballot: Ballot, wanted: int, *, cut_short: bool) -> Answer:
    (said, answer), *others = ballot.ranked()
    return Answer(
        said=said,
        evidence=Evidence(confidence=ballot.agreement),
        extracted=answer,
        cut_short=cut_short,
        others=tuple(each for each, _ in others[: wanted - 1]),
    )
