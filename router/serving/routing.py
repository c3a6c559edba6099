"""Route: from a request to a decision in the outbox, and its reply."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

from router.errors import LeadlineError, NotFound
from router.ids import decision_id, time_of
from router.pipeline import decide
from router.serving.asked import Asked, asked
from router.serving.rows import alternatives, decision_row, dump, read, reply
from router.serving.state import Current, State
from router.serving.telemetry import Metrics
from router.serving.tenants import NamedSlos
from router.store.seams import Kind, Outbox, Record
from router.types import Identity, Slo
from router.v1.router_pb2 import RouteRequest, RouteResponse

Clock = Callable[[], datetime]
DEFAULT_SLO = "default"


def utc_now() -> datetime:
    """The time by this machine's clock."""
    return datetime.now(UTC)


class Routing:
    """Decides, logs, replies, in less than a millisecond: nothing here leaves the machine."""

    def __init__(
        self,
        *,
        current: Current,
        outbox: Outbox,
        key: bytes,
        metrics: Metrics,
        max_query_bytes: int,
        exploration_rate: float,
        clock: Clock = utc_now,
    ) -> None:
        self._current, self._outbox, self._key, self._metrics = current, outbox, key, metrics
        self._max_query_bytes = max_query_bytes
        self._without_slo = Slo(exploration_rate=exploration_rate)
        self._clock = clock

    def route(self, request: RouteRequest, caller: Identity, slos: NamedSlos) -> RouteResponse:
        """The reply, once its decision is in the outbox.

        A request_id that was answered before gets the same decision again. Raises Conflict
        (REQUEST_ID_REUSED) when it came with another body.
        """
        state = self._current.state
        question = asked(request, arms=state.arms, max_query_bytes=self._max_query_bytes)
        try:
            return self._decide(question, state, caller, self.slo(question.slo_name, slos))
        except LeadlineError:
            earlier = self._earlier(question, caller.tenant_id)
            if earlier is None:
                raise
            return reply(read(earlier.row), state.arms)

    def slo(self, name: str, slos: NamedSlos) -> Slo:
        """The slo that a request names. Raises NotFound; without a name there is always one."""
        found = slos.get(name or DEFAULT_SLO)
        if found is not None:
            return found
        if name and name != DEFAULT_SLO:
            raise NotFound(
                f"this tenant has no slo {name!r:.80}; write it with 'leadline slos put'",
                reason="SLO_NOT_FOUND",
            )
        return self._without_slo

    def _decide(self, question: Asked, state: State, caller: Identity, slo: Slo) -> RouteResponse:
        tenant_id = caller.tenant_id
        identifier = decision_id(tenant_id, question.request_id, self._clock(), self._key)
        decision = decide(
            state.policy,
            question.query,
            slo,
            question.bounds,
            decision_id=identifier,
            now=time_of(identifier),
        )
        others = alternatives(decision, state.value_usd(slo))
        row = decision_row(decision, question, tenant_id, state.keys, others)
        record = self._record(question, tenant_id, identifier, dump(row))
        stored = self._outbox.put(record)
        if stored is not record:
            return reply(read(stored.row), state.arms)
        self._metrics.decided(decision)
        return reply(row, state.arms)

    def _record(self, question: Asked, tenant_id: UUID, identifier: UUID, row: bytes) -> Record:
        return Record(
            kind=Kind.DECISION,
            tenant_id=tenant_id,
            key=question.request_id or identifier,
            row_id=identifier,
            digest=question.digest,
            row=row,
        )

    def _earlier(self, question: Asked, tenant_id: UUID) -> Record | None:
        """What was stored for the same request, when it can't be decided any more."""
        if question.request_id is None:
            return None
        found = self._outbox.find_key(Kind.DECISION, tenant_id, question.request_id)
        return found if found is not None and found.digest == question.digest else None
