"""Every call of the server: how its request is built and how its reply is read.

Each function takes what a caller says and returns a Call; `Client` and `AsyncClient` offer
them all as methods and differ only in how they wait.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Generic, TypedDict, TypeVar, Unpack
from uuid import UUID

from google.protobuf.message import Message

from router.clients import replies
from router.clients.mapping import stamp
from router.clients.values import DecisionRecord, NextStep, OutcomeReport, RoutedDecision
from router.errors import InvalidInput, LeadlineError
from router.ids import uuid7
from router.types import Capability, Evidence
from router.v1 import router_pb2

T = TypeVar("T")

OUTCOMES_PER_STREAM = 500

Query = str | Sequence[Mapping[str, str]]
"""The text, or chat messages with `role` and `content`, oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """One request, or a stream of them, ready to send as often as need be.

    `read` makes its reply a value.
    """

    service: str
    method: str
    request: Message | tuple[Message, ...]
    response: type[Message]
    read: Callable[[Any], T]

    @property
    def path(self) -> str:
        """The method's path on the wire."""
        return f"/router.v1.{self.service}/{self.method}"

    @property
    def streams(self) -> bool:
        """Whether the request is a stream."""
        return isinstance(self.request, tuple)

    def sent(self) -> Any:
        """What a stub takes: the message, or a new iterator over the stream's."""
        return iter(self.request) if isinstance(self.request, tuple) else self.request


class RouteOptions(TypedDict, total=False):
    """What may be said of a query besides itself; everything is optional.

    Arms are named by their keys. `compute_budget` is relative to one single pass, from 1
    to 100. `needs` holds capabilities. The bounds stand on top of the slo's. Without a
    `request_id` a new one is made. `may_continue` promises to send evidence to Continue
    where a decision says so; the first arm is then planned with those that may follow.
    `explain` asks what moved the choice, which is then in the decision and in the log.
    """

    slo: str
    request_id: UUID
    subject: str
    conversation_id: str
    labels: Mapping[str, str]
    compute_budget: int
    allowed_arms: Collection[str]
    excluded_arms: Collection[str]
    needs: Collection[Capability | str]
    needs_context_tokens: int
    max_cost_usd: float
    max_latency_s: float
    may_continue: bool
    explain: bool


def route(query: Query, **options: Unpack[RouteOptions]) -> Call[RoutedDecision]:
    """Chooses an arm for a query; the options are those of RouteOptions."""
    return Call(
        service="Router",
        method="Route",
        request=route_request(query, options),
        response=router_pb2.RouteResponse,
        read=replies.decision,
    )


def route_batch(
    queries: Iterable[Query], **options: Unpack[RouteOptions]
) -> Call[tuple[RoutedDecision | LeadlineError, ...]]:
    """Chooses arms for up to 256 queries with the same options; each has a decision or error."""
    if "request_id" in options:
        raise InvalidInput("names one request; leave it out of a batch", field="request_id")
    requests = [route_request(query, options) for query in queries]
    return Call(
        service="Router",
        method="RouteBatch",
        request=router_pb2.RouteBatchRequest(requests=requests),
        response=router_pb2.RouteBatchResponse,
        read=replies.batch,
    )


def continue_(
    decision_id: UUID | str,
    evidence: Evidence,
    *,
    attempt: int = 0,
    request_id: UUID | None = None,
) -> Call[NextStep]:
    """Says whether to keep the answer or to try another arm, by what the attempt showed."""
    shown = {name: getattr(evidence, name) for name in Evidence.__slots__}
    return Call(
        service="Router",
        method="Continue",
        request=router_pb2.ContinueRequest(
            request_id=identify(request_id),
            decision_id=str(decision_id),
            attempt=attempt,
            evidence=router_pb2.Evidence(**shown),
        ),
        response=router_pb2.ContinueResponse,
        read=replies.next_step,
    )


class OutcomeFields(TypedDict, total=False):
    """What may be said of an attempt; each is a field of OutcomeReport."""

    attempt: int
    score: float | None
    source: str
    cost_usd: float | None
    input_tokens: int | None
    output_tokens: int | None
    latency_s: float | None
    confidence: float | None
    error: str
    occurred_at: datetime | None
    request_id: UUID | None
    time_to_first_token_s: float | None


def report_outcome(decision_id: UUID | str, **fields: Unpack[OutcomeFields]) -> Call[UUID]:
    """Reports what became of an attempt, by OutcomeReport's fields; returns the outcome's id."""
    return Call(
        service="Router",
        method="ReportOutcome",
        request=outcome_request(OutcomeReport(decision_id=decision_id, **fields)),
        response=router_pb2.ReportOutcomeResponse,
        read=replies.outcome_id,
    )


def report_parts(
    outcomes: Iterable[OutcomeReport],
) -> Iterator[tuple[int, Call[router_pb2.ReportOutcomesResponse]]]:
    """The streams that report many outcomes, each with the index of its first.

    A stream holds few enough to be sent again whole when the server was away.
    """
    flow, start = iter(outcomes), 0
    while part := tuple(outcome_request(each) for each in islice(flow, OUTCOMES_PER_STREAM)):
        yield (
            start,
            Call(
                service="Router",
                method="ReportOutcomes",
                request=part,
                response=router_pb2.ReportOutcomesResponse,
                read=replies.unread,
            ),
        )
        start += len(part)


def outcome_request(outcome: OutcomeReport) -> router_pb2.ReportOutcomeRequest:
    """The outcome on the wire."""
    return router_pb2.ReportOutcomeRequest(
        request_id=str(outcome.request_id or ""),
        decision_id=str(outcome.decision_id),
        attempt=outcome.attempt,
        score=outcome.score,
        source=outcome.source,
        cost_usd=outcome.cost_usd,
        input_tokens=outcome.input_tokens,
        output_tokens=outcome.output_tokens,
        latency_s=outcome.latency_s,
        confidence=outcome.confidence,
        error=outcome.error,
        occurred_at=None if outcome.occurred_at is None else stamp(outcome.occurred_at),
        time_to_first_token_s=outcome.time_to_first_token_s,
    )


def get_decision(decision_id: UUID | str) -> Call[DecisionRecord]:
    """Gets a decision with the outcomes reported so far."""
    return Call(
        service="Router",
        method="GetDecision",
        request=router_pb2.GetDecisionRequest(decision_id=str(decision_id)),
        response=router_pb2.GetDecisionResponse,
        read=replies.decision_record,
    )


def route_request(query: Query, options: RouteOptions) -> router_pb2.RouteRequest:
    """The Route request on the wire."""
    request = router_pb2.RouteRequest(
        request_id=identify(options.get("request_id")),
        slo=options.get("slo", ""),
        subject=options.get("subject", ""),
        conversation_id=options.get("conversation_id", ""),
        labels=options.get("labels", {}),
        compute_budget=options.get("compute_budget", 0),
        allowed_arms=sorted(options.get("allowed_arms", ())),
        excluded_arms=sorted(options.get("excluded_arms", ())),
        needs=_needs(options),
        max_cost_usd=options.get("max_cost_usd"),
        max_latency_s=options.get("max_latency_s"),
        may_continue=options.get("may_continue", False),
        explain=options.get("explain", False),
    )
    if isinstance(query, str):
        request.text = query
    else:
        request.chat.CopyFrom(_chat(query))
    return request


def _chat(query: Sequence[Mapping[str, str]]) -> router_pb2.Chat:
    try:
        return router_pb2.Chat(
            messages=[
                router_pb2.Message(role=each["role"], content=each["content"]) for each in query
            ]
        )
    except (KeyError, TypeError):
        raise InvalidInput(
            "is neither text nor messages, each with a role and a content that are text",
            field="query",
        ) from None


def _needs(options: RouteOptions) -> router_pb2.Needs | None:
    capabilities = {Capability(need) for need in options.get("needs", ())}
    context_tokens = options.get("needs_context_tokens", 0)
    if not capabilities and not context_tokens:
        return None
    return router_pb2.Needs(
        context_tokens=context_tokens,
        tools=Capability.TOOLS in capabilities,
        vision=Capability.VISION in capabilities,
        json=Capability.JSON in capabilities,
    )


def serialize(message: Message) -> bytes:
    """The message's bytes."""
    return message.SerializeToString()


def identify(request_id: UUID | None) -> str:
    """The request's id as given, or a new one of now."""
    return str(request_id or uuid7(datetime.now(UTC)))
