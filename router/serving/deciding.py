"""Decides for the executor, in this process, as Route, Continue and ReportOutcome do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import isnan, nan
from typing import Any
from uuid import UUID

import numpy as np

from router.clients.values import OutcomeReport
from router.errors import LeadlineError, NotFound
from router.execution.calls import Failure, Message
from router.execution.deciding import Planned, Report, Request, Routed, Verdict
from router.execution.local import conversation
from router.execution.reading import text_of
from router.serving.asked import Asked, asked
from router.serving.budgets import Wallets
from router.serving.continuing import Continuing
from router.serving.door import Door
from router.serving.outcomes import Outcomes
from router.serving.rows import Row, arm_of
from router.serving.standing_in import StandingIn
from router.serving.state import Current
from router.serving.telemetry import Logger
from router.types import Arm, Evidence, Identity, Model

Figures = Mapping[str, Any]

PLANNED = ("accuracy", "cost_usd", "latency_p50_s")
"""The figures that an execution goes by."""

_arm = lru_cache(1 << 12)(arm_of)

NO_TEXT = "(no text)"
"""What is decided about where messages have images alone."""

REPORTED = "execution"
"""The source of outcomes without a score that Leadline reports itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deciding:
    """What a worker decides with, for any caller."""

    current: Current
    door: Door
    continuing: Continuing
    standing_in: StandingIn
    outcomes: Outcomes
    wallets: Wallets
    log: Logger

    def of(self, caller: Identity, question: Asked | None = None) -> ServedDecider:
        """The decider of one caller: about `question`, or about what an execution asks."""
        return ServedDecider(self, caller, question)


class ServedDecider:
    """The Decider of a caller that the worker knows."""

    def __init__(self, parts: Deciding, caller: Identity, question: Asked | None) -> None:
        self._parts, self._caller, self._question = parts, caller, question

    async def route(self, request: Request) -> Routed:
        """As Decider says."""
        question = self._question or question_of(request)
        row = await self._parts.door.decide_alone(question, self._caller)
        return Routed(
            decision_id=_identifier(row["decision_id"]),
            first=self._planned(row["arm"], _expected(row)),
            reason=row["reason"],
            should_continue=row["should_continue"],
        )

    async def go_on(self, decision_id: UUID, attempt: int, evidence: Evidence) -> Verdict:
        """As Decider says; where Continue has no word, the answer is kept."""
        going_on = self._parts.continuing.go_on
        try:
            row = await going_on(decision_id, attempt, evidence, self._caller)
        except LeadlineError as error:
            self._parts.log.warning("not continued", decision_id=decision_id, reason=error.reason)
            return Verdict(following=None, best=attempt, accuracy=0.0, reason=error.message)
        keep = row["next_arm"] is None
        return Verdict(
            following=None if keep else self._following(row),
            best=row["evidence"]["best"] if keep else attempt,
            accuracy=row["accuracy"],
            reason=row["reason"],
        )

    def leave(self, decision_id: UUID, attempt: int) -> None:
        """As Decider says; the budgets have back what was set aside for it."""
        self._parts.wallets.release(self._caller.tenant_id, decision_id, attempt)

    async def instead(self, decision_id: UUID, attempt: int, failure: Failure) -> Planned | None:
        """As Decider says; None also where that cannot be logged."""
        try:
            row = await self._parts.standing_in.instead(self._caller, decision_id, attempt, failure)
        except LeadlineError as error:
            self._parts.log.warning("no stand-in", decision_id=decision_id, reason=error.reason)
            return None
        return None if row is None else self._following(row)

    async def report(self, decision_id: UUID, report: Report) -> None:
        """As Decider says; an answer is given even where its outcome cannot be logged."""
        try:
            self._parts.outcomes.report(_outcome(decision_id, report), self._caller)
        except LeadlineError as error:
            self._parts.log.warning(
                "an outcome is lost",
                decision_id=decision_id,
                attempt=report.attempt,
                cost_usd=report.cost_usd,
                reason=error.reason,
            )

    def _following(self, row: Row) -> Planned:
        """The arm that follows the attempt of a row."""
        return self._planned(row["next_arm"], row["evidence"]["next"])

    def _planned(self, key: str, figures: Figures) -> Planned:
        arm = _arm(key)
        return Planned(
            arm=arm,
            model=self._model(arm),
            accuracy=_known(figures, "accuracy") or 0.0,
            cost_usd=_known(figures, "cost_usd") or 0.0,
            latency_s=_known(figures, "latency_p50_s"),
        )

    def _model(self, arm: Arm) -> Model:
        try:
            return self._parts.current.state.catalog.model(arm.model)
        except KeyError:
            raise NotFound(
                f"model {arm.model!r:.80} has left the catalog; ask again",
                reason="MODEL_NOT_FOUND",
            ) from None


def question_of(request: Request) -> Asked:
    """What an execution asks. Raises InvalidInput."""
    return asked(
        text_asked(request.task.messages),
        request_id=request.request_id,
        slo=request.slo,
        subject=request.subject,
        conversation_id=request.conversation_id,
        labelled=request.labels,
        bounds=request.bounds,
        needs=request.needs,
        context_tokens=request.needs_context_tokens,
    )


def text_asked(messages: tuple[Message, ...]) -> str:
    """What is decided about: the text of one message alone, or the conversation's."""
    if any(text_of(each.get("content")).strip() for each in messages):
        return conversation(messages)
    return NO_TEXT if messages else ""


def _identifier(value: UUID | str) -> UUID:
    return value if isinstance(value, UUID) else UUID(value)


def _expected(row: Row) -> Figures:
    """What is expected of the arm that a decision's row names."""
    predicted = row["predictions"] or {"arms": [row["arm"]]}
    place = predicted["arms"].index(row["arm"])
    return {name: predicted[name][place] for name in PLANNED if name in predicted}


def _known(figures: Figures, name: str) -> float | None:
    """A figure as replies tell it; None where nobody knows it."""
    value = figures.get(name)
    known = nan if value is None else float(np.float32(value))
    return None if isnan(known) else known


def _outcome(decision_id: UUID, report: Report) -> OutcomeReport:
    return OutcomeReport(
        decision_id=decision_id,
        attempt=report.attempt,
        score=report.score,
        source=report.source or REPORTED,
        cost_usd=report.cost_usd,
        input_tokens=report.usage.input_tokens,
        output_tokens=report.usage.output_tokens,
        latency_s=report.latency_s,
        confidence=report.evidence.confidence,
        error=str(report.failure or ""),
        time_to_first_token_s=report.evidence.time_to_first_token_s,
    )
