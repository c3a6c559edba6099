"""The service Router: requests to calls, values to responses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from router.errors import InvalidInput, LeadlineError, NotFound
from router.ids import time_of
from router.serving import fields
from router.serving.asked import Asked
from router.serving.continuing import Continuing
from router.serving.decisions import Decisions
from router.serving.door import Door
from router.serving.edge import Rpc
from router.serving.outcomes import Outcomes
from router.serving.rows import Row
from router.serving.state import Current
from router.serving.wire import (
    ArmMessages,
    continued,
    digest,
    evidence,
    outcome,
    predictions,
    question,
    reply,
)
from router.types import Identity
from router.v1 import router_pb2 as pb

MOST_REQUESTS = 256
MOST_REFUSED = 100
OUTCOMES_AT_ONCE = 64
SERVICE = "/router.v1.Router/"


class RouterServicer:
    """Routes queries and takes what became of them."""

    def __init__(
        self,
        *,
        current: Current,
        door: Door,
        continuing: Continuing,
        outcomes: Outcomes,
        decisions: Decisions,
    ) -> None:
        self._current, self._door, self._continuing = current, door, continuing
        self._outcomes, self._decisions = outcomes, decisions

    def rpcs(self) -> list[Rpc]:
        """The methods."""
        return [
            Rpc(name=SERVICE + "Route", request=pb.RouteRequest, run=self.route),
            Rpc(name=SERVICE + "RouteBatch", request=pb.RouteBatchRequest, run=self.route_batch),
            Rpc(name=SERVICE + "Continue", request=pb.ContinueRequest, run=self.go_on),
            Rpc(name=SERVICE + "ReportOutcome", request=pb.ReportOutcomeRequest, run=self.report),
            Rpc(
                name=SERVICE + "ReportOutcomes",
                request=pb.ReportOutcomeRequest,
                run=self.report_many,
                streams=True,
            ),
            Rpc(name=SERVICE + "GetDecision", request=pb.GetDecisionRequest, run=self.get),
        ]

    async def route(self, request: pb.RouteRequest, caller: Identity) -> pb.RouteResponse:
        """Route."""
        row = await self._door.decide(question(request), caller)
        return reply(row, self._current.state.arms)

    async def route_batch(
        self, request: pb.RouteBatchRequest, caller: Identity
    ) -> pb.RouteBatchResponse:
        """RouteBatch."""
        if len(request.requests) > MOST_REQUESTS:
            raise InvalidInput(
                f"there are {len(request.requests)}, more than {MOST_REQUESTS}; send them in parts",
                field="requests",
            )
        found = await self._door.decide_many([_read(each) for each in request.requests], caller)
        arms = self._current.state.arms
        return pb.RouteBatchResponse(results=[_result(each, arms) for each in found])

    async def go_on(self, request: pb.ContinueRequest, caller: Identity) -> pb.ContinueResponse:
        """Continue."""
        fields.optional_uuid(request.request_id, "request_id")
        row = await self._continuing.go_on(
            fields.uuid(request.decision_id, "decision_id"),
            request.attempt,
            evidence(request.evidence),
            caller,
        )
        return continued(row, self._current.state.arms)

    async def report(
        self, request: pb.ReportOutcomeRequest, caller: Identity
    ) -> pb.ReportOutcomeResponse:
        """ReportOutcome."""
        return pb.ReportOutcomeResponse(outcome_id=str(self._report(request, caller)))

    def _report(self, request: pb.ReportOutcomeRequest, caller: Identity) -> UUID:
        return self._outcomes.report(outcome(request), caller, digest(request))

    async def report_many(
        self, requests: AsyncIterator[pb.ReportOutcomeRequest | InvalidInput], caller: Identity
    ) -> pb.ReportOutcomesResponse:
        """ReportOutcomes."""
        summary, index = pb.ReportOutcomesResponse(), 0
        async for request in requests:
            try:
                if isinstance(request, InvalidInput):
                    raise request
                self._report(request, caller)
                summary.accepted += 1
            except LeadlineError as error:
                summary.refused_count += 1
                if len(summary.refused) < MOST_REFUSED:
                    summary.refused.add(index=index, reason=error.reason, message=error.message)
            index += 1
            if index % OUTCOMES_AT_ONCE == 0:
                await asyncio.sleep(0)
        return summary

    async def get(self, request: pb.GetDecisionRequest, caller: Identity) -> pb.GetDecisionResponse:
        """GetDecision."""
        decision_id = fields.uuid(request.decision_id, "decision_id")
        at = _told(decision_id)
        row = await self._decisions.decision(caller.tenant_id, decision_id)
        outcomes = await self._decisions.outcomes(caller.tenant_id, decision_id)
        arms = self._current.state.arms
        response = pb.GetDecisionResponse(
            decision=reply(row, arms), slo=row["slo_name"] or "", labels=row["labels"] or {}
        )
        response.occurred_at.FromDatetime(at)
        if row["predictions"]:
            everyone = range(len(row["predictions"]["arms"]))
            response.predictions.extend(predictions(row["predictions"], everyone, arms))
        response.outcomes.extend(map(_outcome, outcomes))
        return response


def _told(decision_id: UUID) -> datetime:
    try:
        return time_of(decision_id)
    except ValueError as error:
        raise NotFound(f"no decision: {error}", reason="DECISION_NOT_FOUND") from None


def _outcome(row: Mapping[str, Any]) -> pb.OutcomeRecord:
    record = pb.OutcomeRecord(
        outcome_id=str(row["outcome_id"]),
        attempt=row["attempt"],
        score=row["score"],
        source=row["source"] or "",
        cost_usd=row["cost_usd"],
        latency_s=row["latency_s"],
        error=row["error"] or "",
    )
    record.occurred_at.FromDatetime(row["occurred_at"])
    return record


def _read(request: pb.RouteRequest) -> Asked | LeadlineError:
    try:
        return question(request)
    except LeadlineError as error:
        return error


def _result(answer: Row | LeadlineError, arms: ArmMessages) -> pb.RouteResult:
    if isinstance(answer, LeadlineError):
        return pb.RouteResult(error=pb.RouteError(reason=answer.reason, message=answer.message))
    return pb.RouteResult(response=reply(answer, arms))
