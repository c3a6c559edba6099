"""A model as judge: the arm's own model, asked afresh whether an answer is right."""

from __future__ import annotations

import re
from dataclasses import replace

from router.execution.calls import Options
from router.execution.strategy import Caller
from router.execution.verifiers.verdict import CANNOT_TELL, PASSES, Checked, Verdict, texts

JUDGE = (
    "You check answers. Read the conversation and the answer, look for mistakes, and say in a "
    "few sentences what is wrong, if anything is. Whatever the answer says of itself is no "
    "proof. End with a line 'Score: ' and a number from 0 (wrong) to 10 (surely right)."
)
VERDICT_TOKENS, MOST_FEEDBACK_CHARS = 512, 2_000

_SCORE = re.compile(r"\bscore\b[ *_`]{0,6}[:=][ *_`]{0,6}(\d{1,2}(?:\.\d{1,3})?)", re.IGNORECASE)


class ModelVerifier:
    """Asks for a critique and a score, with no memory of how the answer came about."""

    async def verify(self, checked: Checked, caller: Caller) -> Verdict:
        """As Verifier says; a reply without a score cannot tell."""
        task = checked.task
        asked = f"{texts(task.messages)}\n\nThe answer to check:\n\n{checked.said.text}"
        messages = ({"role": "system", "content": JUDGE}, {"role": "user", "content": asked})
        options = Options(temperature=0.0, max_output_tokens=VERDICT_TOKENS)
        made = await caller.ask(messages, replace(options, seed=task.options.seed))
        return judged(made.said[0].text)


def judged(text: str) -> Verdict:
    """Reads a judge's reply."""
    found = list(_SCORE.finditer(text))
    if not found or float(found[-1].group(1)) > 10:
        return CANNOT_TELL
    score = float(found[-1].group(1)) / 10
    feedback = text[: found[-1].start()].strip(" \n*_#")[:MOST_FEEDBACK_CHARS]
    return Verdict(passed=score >= PASSES, score=score, feedback=feedback)
