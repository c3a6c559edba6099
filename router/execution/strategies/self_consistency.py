"""Several samples of one query, and a vote on their answers."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Self

import numpy as np

from router.execution.answers import reader
from router.execution.backend import BackendFailed
from router.execution.strategies.asking import Prompt, plain
from router.execution.strategies.ballot import Ballot
from router.execution.strategies.chain_of_thought import thoughtful
from router.execution.strategies.drawing import draw
from router.execution.strategies.params import one_of, share, switch, whole
from router.execution.strategy import AllowanceSpent, Answer, Caller, Task
from router.policy.embedding import Embedder
from router.policy.sampling import Agreement, FixedSamples, SamplingRule, Votes
from router.types import Strategy

SAMPLES, MOST_SAMPLES = 5, 128
THRESHOLD = 0.95

BASES = MappingProxyType({Strategy.CHAIN_OF_THOUGHT.value: thoughtful, Strategy.SINGLE.value: None})


class SelfConsistency:
    """Draws samples until a rule says that the vote is clear enough.

    Samples are drawn together as far as the rule needs them in any case, so that none is
    drawn for nothing.
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
        runner-up with the probability `threshold`; `weighed`, to count the votes of samples
        that the model was surer of for more.
        """
        most = whole(params, "samples", SAMPLES, MOST_SAMPLES)
        rule = self._rule_of(params, most)
        prompt = _prompt(task, params, caller)
        weighed = switch(params, "weighed")
        ballot = Ballot(reader(task.answer_kind), self._embedder, weighed=weighed)
        cut_short = False
        try:
            while len(ballot) < most and not (len(ballot) and rule.enough(ballot.votes)):
                count = least_more(rule, ballot.votes, most)
                ballot.add(await draw(prompt, caller, count, len(ballot)))
                caller.tell(f"{len(ballot)} of at most {most} samples")
        except (AllowanceSpent, BackendFailed):
            if not len(ballot):
                raise
            cut_short = True
        return ballot.answer(task.samples, cut_short=cut_short)

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


def _prompt(task: Task, params: Mapping[str, Any], caller: Caller) -> Prompt:
    base = BASES[one_of(params, "base", BASES)]
    return plain(task) if base is None else base(task, params, caller)
