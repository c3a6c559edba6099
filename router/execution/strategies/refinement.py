"""Generate, verify, and generate again with what the verifier found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from router.execution.answers import reader
from router.execution.backend import BackendFailed
from router.execution.calls import Said
from router.execution.strategies.asking import Prompt, ask, extracted, single_answer, was_cut
from router.execution.strategies.chain_of_thought import thoughtful
from router.execution.strategies.params import whole
from router.execution.strategy import AllowanceSpent, Answer, Caller, Task
from router.execution.verifiers import CANNOT_TELL, Checked, Verdict, Verifier, Verifiers

ROUNDS, MOST_ROUNDS = 3, 20
TOKENS = 1_024

IMPROVE = "Check your answer, mend what is wrong, and give the whole answer again."
MEND = (
    "Your answer was checked:\n\n{feedback}\n\nMend what is wrong, and give the whole answer again."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    """One round's answer; `cut_short` where it ended at the allowance."""

    said: Said
    verdict: Verdict
    cut_short: bool

    @property
    def rank(self) -> float:
        """By how much a verifier would keep it; before any that it could not tell of."""
        return -1.0 if self.verdict.score is None else self.verdict.score


class Refinement:
    """Answers in rounds until one passes, and keeps the best by the verifier, then the latest."""

    name = "refinement"

    def __init__(self, verifiers: Verifiers | None = None) -> None:
        self._verifiers = verifiers or Verifiers()

    async def run(self, task: Task, params: Mapping[str, Any], caller: Caller) -> Answer:
        """As Runnable says.

        Params: `rounds`, answers at most; `verifier`, before the task's own: a name, or 'self'
        to have the model check each answer as it gives the next; `tokens`, 1,024 where none
        are set, and `style` as chain_of_thought has them.
        """
        rounds = whole(params, "rounds", ROUNDS, MOST_ROUNDS)
        verifier = self._verifiers.named(str(params.get("verifier", task.verifier)))
        prompt = thoughtful(task, {"tokens": TOKENS, **params}, caller)
        drafts: list[_Draft] = []
        try:
            while len(drafts) < rounds and not (drafts and _is_done(drafts[-1])):
                caller.tell(f"round {len(drafts) + 1} of at most {rounds}")
                prompt = _next(prompt, drafts[-1]) if drafts else prompt
                drafts.append(await _draft(task, prompt, verifier, caller))
        except (AllowanceSpent, BackendFailed):
            if not drafts:
                raise
            return _kept(task, drafts, cut_short=True)
        return _kept(task, drafts, cut_short=drafts[-1].cut_short)


async def _draft(task: Task, prompt: Prompt, verifier: Verifier | None, caller: Caller) -> _Draft:
    completion = await ask(prompt, caller)
    said = completion.said[0]
    cut_short = was_cut(said, completion, prompt.options.max_output_tokens)
    answer = extracted(said, reader(task.answer_kind))
    checked = Checked(task=task, said=said, extracted=answer)
    if verifier is None or said.tool_calls:
        return _Draft(said=said, verdict=CANNOT_TELL, cut_short=cut_short)
    try:
        verdict = await verifier.verify(checked, caller)
    except (AllowanceSpent, BackendFailed):
        return _Draft(said=said, verdict=CANNOT_TELL, cut_short=True)
    return _Draft(said=said, verdict=verdict, cut_short=cut_short)


def _is_done(draft: _Draft) -> bool:
    """Whether no other round follows: it passed, or calls tools, which is not talked about."""
    return draft.verdict.passed or bool(draft.said.tool_calls) or draft.cut_short


def _next(prompt: Prompt, draft: _Draft) -> Prompt:
    feedback = draft.verdict.feedback
    asked = MEND.format(feedback=feedback) if feedback else IMPROVE
    answer = {"role": "assistant", "content": draft.said.text}
    messages = (*prompt.messages, answer, {"role": "user", "content": asked})
    return replace(prompt, messages=messages)


def _kept(task: Task, drafts: list[_Draft], *, cut_short: bool) -> Answer:
    best = max(reversed(drafts), key=lambda draft: draft.rank)
    answer = single_answer(task, best.said, cut_short=cut_short)
    evidence = replace(answer.evidence, verifier_score=best.verdict.score)
    return replace(answer, evidence=evidence)
