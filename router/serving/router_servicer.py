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
from router.serving.continuing import Continuing
from router.serving.decisions import Decisions
from router.serving.edge import Rpc
from router.serving.gathering import MOST_TOGETHER, Gathering
from router.serving.outcomes import Outcomes
from router.serving.routing import Routing, Waiting
from router.serving.rows import predictions, reply
from router.serving.state import Current
from router.serving.tenants import NamedSlos, TenantDirectory
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
        routing: Routing,
        continuing: Continuing,
        outcomes: Outcomes,
        decisions: Decisions,
        tenants: TenantDirectory,
    ) -> None:
        self._current, self._routing, self._continuing = current, routing, continuing
        self._gathering = Gathering(routing)
        self._outcomes, self._decisions, self._tenants = outcomes, decisions, tenants

    def rpcs(self) -> list[Rpc]:
        """The methods."""
        return [
            Rpc(name=SERVICE + "Route", request=pb.RouteRequest, run=self.route),
            Rpc(name=SERVICE + "RouteBatch", request=pb.RouteBatchRequest, run=self.route_batch),
            Rpc(name=SERVICE + "Continue", request=pb.ContinueRequest, run=self._continuing.go_on),
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
        slos = self._tenants.slos(caller.tenant_id)
        if slos is None:
            slos = await self._tenants.load_slos(caller.tenant_id)
        waiting = self._routing.read(request, caller, slos)
        await self._routing.ready(waiting)
        return await self._gathering.route(waiting)

    async def route_batch(
        self, request: pb.RouteBatchRequest, caller: Identity
    ) -> pb.RouteBatchResponse:
        """RouteBatch, some at a time; other calls have their turn in between."""
        if len(request.requests) > MOST_REQUESTS:
            raise InvalidInput(
                f"there are {len(request.requests)}, more than {MOST_REQUESTS}; send them in parts",
                field="requests",
            )
        slos = self._tenants.slos(caller.tenant_id)
        if slos is None:
            slos = await self._tenants.load_slos(caller.tenant_id)
        read = [await self._ready(each, caller, slos) for each in request.requests]
        waiting = [each for each in read if isinstance(each, Waiting)]
        answers = []
        for start in range(0, len(waiting), MOST_TOGETHER):
            answers += self._routing.answer(waiting[start : start + MOST_TOGETHER])
            await asyncio.sleep(0)
        answered = iter(answers)
        return pb.RouteBatchResponse(
            results=[
                _result(next(answered) if isinstance(each, Waiting) else each) for each in read
            ]
        )

    async def _ready(
        self, request: pb.RouteRequest, caller: Identity, slos: NamedSlos
    ) -> Waiting | LeadlineError:
        try:
            waiting = self._routing.read(request, caller, slos)
            await self._routing.ready(waiting)
        except LeadlineError as error:
            return error
        return waiting

    async def report(
        self, request: pb.ReportOutcomeRequest, caller: Identity
    ) -> pb.ReportOutcomeResponse:
        """ReportOutcome."""
        return pb.ReportOutcomeResponse(outcome_id=str(self._outcomes.report(request, caller)))

    async def report_many(
        self, requests: AsyncIterator[pb.ReportOutcomeRequest | InvalidInput], caller: Identity
    ) -> pb.ReportOutcomesResponse:
        """ReportOutcomes."""
        summary, index = pb.ReportOutcomesResponse(), 0
        async for request in requests:
            try:
                if isinstance(request, InvalidInput):
                    raise request
                self._outcomes.report(request, caller)
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


def _result(answer: pb.RouteResponse | LeadlineError) -> pb.RouteResult:
    if isinstance(answer, LeadlineError):
        return pb.RouteResult(error=pb.RouteError(reason=answer.reason, message=answer.message))
    return pb.RouteResult(response=answer)
