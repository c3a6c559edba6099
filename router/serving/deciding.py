"""Decides for the executor, in this process, as Route, Continue and ReportOutcome do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from router.errors import LeadlineError, NotFound
from router.execution.calls import Failure, Message
from router.execution.deciding import Planned, Report, Request, Routed, Verdict
from router.execution.reading import text_of
from router.serving.budgets import Wallets
from router.serving.continuing import Continuing
from router.serving.outcomes import Outcomes
from router.serving.rows import arm_of, predictions
from router.serving.standing_in import StandingIn
from router.serving.state import Current
from router.serving.telemetry import Logger
from router.types import Arm, Evidence, Identity, Model
from router.v1 import router_pb2 as pb

Route = Callable[[pb.RouteRequest, Identity], Awaitable[pb.RouteResponse]]

NO_TEXT = "(no text)"
"""What is decided about where messages have images alone."""

REPORTED = "execution"
"""The source of outcomes without a score that Leadline reports itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deciding:
    """What a worker decides with, for any caller."""

    current: Current
    route: Route
    continuing: Continuing
    standing_in: StandingIn
    outcomes: Outcomes
    wallets: Wallets
    log: Logger

    def of(self, caller: Identity, message: pb.RouteRequest | None = None) -> ServedDecider:
        """The decider of one caller: about `message`, or about what an execution asks."""
        return ServedDecider(self, caller, message)


class ServedDecider:
    """The Decider of a caller that the worker knows."""

    def __init__(self, parts: Deciding, caller: Identity, message: pb.RouteRequest | None) -> None:
        self._parts, self._caller, self._message = parts, caller, message

    async def route(self, request: Request) -> Routed:
        """As Decider says."""
        message = message_of(request) if self._message is None else self._message
        response = await self._parts.route(message, self._caller)
        return Routed(
            decision_id=UUID(response.decision_id),
            first=self._planned(response.chosen),
            reason=response.reason,
            should_continue=response.should_continue,
        )

    async def go_on(self, decision_id: UUID, attempt: int, evidence: Evidence) -> Verdict:
        """As Decider says; where Continue has no word, the answer is kept."""
        request = pb.ContinueRequest(
            decision_id=str(decision_id),
            attempt=attempt,
            evidence=pb.Evidence(
                confidence=evidence.confidence,
                verifier_score=evidence.verifier_score,
                output_tokens=evidence.output_tokens,
                cost_usd=evidence.cost_usd,
                latency_s=evidence.latency_s,
                time_to_first_token_s=evidence.time_to_first_token_s,
            ),
        )
        try:
            reply = await self._parts.continuing.go_on(request, self._caller)
        except LeadlineError as error:
            self._parts.log.warning("not continued", decision_id=decision_id, reason=error.reason)
            return Verdict(following=None, best=attempt, accuracy=0.0, reason=error.message)
        return Verdict(
            following=None if reply.keep else self._planned(reply.next),
            best=reply.attempt if reply.keep else attempt,
            accuracy=reply.accuracy,
            reason=reply.reason,
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
        if row is None:
            return None
        figures = {name: [value] for name, value in row["evidence"]["next"].items()}
        arms = self._parts.current.state.arms
        return self._planned(predictions({"arms": [row["next_arm"]], **figures}, [0], arms)[0])

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

    def _planned(self, message: pb.Prediction) -> Planned:
        arm = arm_of(message.arm.key)
        known = message.HasField("latency_p50_s")
        return Planned(
            arm=arm,
            model=self._model(arm),
            accuracy=message.accuracy,
            cost_usd=message.cost_usd,
            latency_s=message.latency_p50_s if known else None,
        )

    def _model(self, arm: Arm) -> Model:
        try:
            return self._parts.current.state.catalog.model(arm.model)
        except KeyError:
            raise NotFound(
                f"model {arm.model!r:.80} has left the catalog; ask again",
                reason="MODEL_NOT_FOUND",
            ) from None


def message_of(request: Request) -> pb.RouteRequest:
    """The Route request that an execution makes."""
    bounds = request.bounds
    message = pb.RouteRequest(
        request_id=request.request_id,
        slo=request.slo,
        subject=request.subject,
        conversation_id=request.conversation_id,
        labels=request.labels,
        compute_budget=bounds.compute_budget,
        allowed_arms=sorted(bounds.allowed_arms),
        excluded_arms=sorted(bounds.excluded_arms),
        needs=pb.Needs(
            context_tokens=request.needs_context_tokens,
            **{str(need): True for need in request.needs},
        ),
        max_cost_usd=bounds.max_cost_usd,
        max_latency_s=bounds.max_latency_s,
        may_continue=bounds.may_continue,
    )
    put_query(message, request.task.messages)
    return message


def put_query(message: pb.RouteRequest, messages: Sequence[Message]) -> None:
    """Says what is decided about: the text of one message alone, or the conversation's."""
    texts = [(str(each.get("role", "")), text_of(each.get("content"))) for each in messages]
    if not any(text.strip() for _, text in texts):
        message.text = NO_TEXT if texts else ""
    elif len(texts) == 1:
        message.text = texts[0][1]
    else:
        message.chat.messages.extend(pb.Message(role=role, content=text) for role, text in texts)


def _outcome(decision_id: UUID, report: Report) -> pb.ReportOutcomeRequest:
    return pb.ReportOutcomeRequest(
        decision_id=str(decision_id),
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
