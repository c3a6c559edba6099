"""What Leadline itself knows of an attempt: its cost and time, how it failed, a score."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import replace

from router.errors import LeadlineError
from router.execution.allowance import Purse
from router.execution.calls import Failure
from router.execution.deciding import Planned, Report
from router.execution.events import Attempted
from router.execution.strategy import Answer, Caller, Task
from router.execution.verifiers import Checked
from router.execution.verifiers.schema import SchemaVerifier
from router.types import Arm, Evidence

BY_THE_MODEL = frozenset({"model", "self"})
"""Verifiers whose word on a model's answer is a model's: evidence, and no outcome."""


def attempted(
    number: int, planned: Planned, purse: Purse, answer: Answer | None, failure: Failure | None
) -> Attempted:
    """The attempt with what was counted of it."""
    return Attempted(
        attempt=number,
        arm=planned.arm,
        calls=tuple(purse.made),
        usage=purse.usage,
        cost_usd=purse.cost_usd,
        latency_s=purse.seconds,
        answer=answer,
        evidence=None if answer is None else _evidence(purse, answer),
        failure=failure,
    )


def _evidence(purse: Purse, answer: Answer) -> Evidence:
    return Evidence(
        confidence=answer.evidence.confidence,
        verifier_score=answer.evidence.verifier_score,
        output_tokens=purse.usage.output_tokens,
        cost_usd=purse.cost_usd,
        latency_s=purse.seconds,
        time_to_first_token_s=purse.made[0].time_to_first_token_s if purse.made else None,
    )


async def report(task: Task, made: Attempted, caller: Caller | None) -> Report:
    """The attempt's outcome, as far as it is known.

    An answer that is not of the form that was asked for is wrong (source "schema"); one of
    the form may be right or wrong. A verifier's word counts where it is no model's.
    """
    score, source = await _known(task, made, caller)
    abandoned = made.failure is Failure.ABANDONED
    return Report(
        attempt=made.attempt,
        usage=made.usage,
        cost_usd=made.cost_usd,
        latency_s=None if abandoned else made.latency_s,
        evidence=made.evidence or Evidence(),
        score=score,
        source=source,
        failure=None if abandoned else made.failure,
    )


async def _known(task: Task, made: Attempted, caller: Caller | None) -> tuple[float | None, str]:
    answer = made.answer
    if answer is None or caller is None:
        return None, ""
    if not answer.said.tool_calls and not await _of_the_form(task, answer, caller):
        return 0.0, "schema"
    score = answer.evidence.verifier_score
    if score is None or not math.isfinite(score) or _verifier(task, made.arm) in BY_THE_MODEL:
        return None, ""
    return score, "verifier"


def _verifier(task: Task, arm: Arm) -> str:
    return str(arm.params.get("verifier", task.verifier))


async def _of_the_form(task: Task, answer: Answer, caller: Caller) -> bool:
    """Whether the text is JSON where that was asked for, and of its schema."""
    asked = task.options.response_format or {}
    if asked.get("type") not in {"json_object", "json_schema"}:
        return True
    try:
        json.loads(answer.said.text)
    except (ValueError, RecursionError):
        return False
    if not (asked.get("json_schema") or {}).get("schema"):
        return True
    checked = Checked(
        task=replace(task, verifier_params=None), said=answer.said, extracted=answer.said.text
    )
    with suppress(LeadlineError):
        return (await SchemaVerifier().verify(checked, caller)).passed
    return True
