"""Continuation within one model: go on for as long as its answers do not agree.

The first attempt is a single pass, the others are chains of thought; agreement between
unlike attempts is the evidence. Continuation across arms, by what the policy learnt of their
evidence, is the executor's and needs no arm of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from router.execution.answers import reader
from router.execution.backend import BackendFailed
from router.execution.strategies.asking import plain
from router.execution.strategies.ballot import Ballot
from router.execution.strategies.chain_of_thought import thoughtful
from router.execution.strategies.drawing import draw
from router.execution.strategies.params import share, whole
from router.execution.strategy import AllowanceSpent, Answer, Caller, Task
from router.policy.sampling import Agreement

ATTEMPTS, MOST_ATTEMPTS = 4, 40

THRESHOLD = 0.85
"""Two attempts that agree are enough (0.875); a tie, or two against one, is not."""


class Dynamic:
    """Attempts one after the other, until one answer is likely to stay ahead.

    Of unlike answers the one wins that the model was surer of, as in a weighed vote.
    """

    name = "dynamic"

    async def run(self, task: Task, params: Mapping[str, Any], caller: Caller) -> Answer:
        """As Runnable says.

        Params: `samples`, at most so many attempts; `threshold`, the probability with which
        the answer that leads stays ahead; `tokens` and `style` as chain_of_thought has them.
        """
        most = whole(params, "samples", ATTEMPTS, MOST_ATTEMPTS)
        rule = Agreement(threshold=share(params, "threshold", THRESHOLD), most=most)
        first, later = plain(task), thoughtful(task, params, caller)
        ballot, cut_short = Ballot(reader(task.answer_kind), weighed=True), False
        try:
            while not (len(ballot) and rule.enough(ballot.votes)):
                prompt = later if len(ballot) else first
                ballot.add(await draw(prompt, caller, 1, len(ballot)))
                caller.tell(f"attempt {len(ballot)} of at most {most}")
        except (AllowanceSpent, BackendFailed):
            if not len(ballot):
                raise
            cut_short = True
        return ballot.answer(task.samples, cut_short=cut_short)
