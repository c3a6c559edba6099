"""POST /v1/feedback: what an answer was worth."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Send

from router.clients.values import OutcomeReport
from router.errors import InvalidInput
from router.gateway.asking import read_as
from router.gateway.body import read_json
from router.gateway.guarding import Exchange
from router.gateway.replies import Reply
from router.gateway.writing import read_completion_id
from router.serving import fields
from router.serving.outcomes import Outcomes


class _Feedback(BaseModel):
    """A score of an answer, which its completion's id names, or a decision with an attempt."""

    model_config = ConfigDict(strict=True, extra="forbid")

    score: Annotated[float, Field(ge=0, le=1)]
    completion_id: Annotated[str, Field(max_length=128)] = ""
    decision_id: Annotated[str, Field(max_length=64)] = ""
    attempt: Annotated[int, Field(ge=0, le=99)] = 0
    source: Annotated[str, Field(max_length=64)] = "feedback"
    request_id: Annotated[str, Field(max_length=64)] = ""


class FeedbackPath:
    """Takes scores of answers as outcomes; asks nobody, so that it works without Postgres."""

    def __init__(self, outcomes: Outcomes) -> None:
        self._outcomes = outcomes

    async def take(self, exchange: Exchange, send: Send) -> int:
        """Answers with the outcome's id, once it is in the outbox."""
        given: _Feedback = read_as(_Feedback, read_json(exchange.body))
        outcome_id = self._outcomes.report(_report(given), exchange.caller)
        reply: dict[str, Any] = {"object": "leadline.outcome", "outcome_id": str(outcome_id)}
        await Reply.of(reply).send(send)
        return 200


def _report(given: _Feedback) -> OutcomeReport:
    if bool(given.completion_id) == bool(given.decision_id):
        raise InvalidInput(
            "name a completion_id or a decision_id, one of both", field="decision_id"
        )
    decision_id, attempt = given.decision_id, given.attempt
    if given.completion_id:
        identifier, attempt = read_completion_id(given.completion_id, "completion_id")
        decision_id = str(identifier)
    return OutcomeReport(
        request_id=fields.optional_uuid(given.request_id, "request_id"),
        decision_id=decision_id,
        attempt=attempt,
        score=given.score,
        source=given.source or "feedback",
    )
