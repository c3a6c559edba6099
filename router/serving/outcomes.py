"""ReportOutcome: from a report to an outcome in the outbox."""

from __future__ import annotations

import hashlib
from uuid import UUID

from router.errors import InvalidInput
from router.execution.calls import Failure
from router.ids import derived_uuid7, time_of
from router.serving import fields
from router.serving.budgets import Wallets
from router.serving.clock import Clock, utc_now
from router.serving.decisions import Decisions
from router.serving.rows import dump
from router.serving.sightings import Reported, Watch, unwatched
from router.store.seams import Kind, Outbox, Record
from router.types import Identity
from router.v1.router_pb2 import ReportOutcomeRequest

MOST_ATTEMPT = 99


class Outcomes:
    """Checks and logs outcomes; asks nobody, so that it works while Postgres is away."""

    def __init__(
        self,
        outbox: Outbox,
        decisions: Decisions,
        clock: Clock = utc_now,
        watch: Watch = unwatched,
        *,
        wallets: Wallets,
    ) -> None:
        self._outbox, self._decisions, self._clock = outbox, decisions, clock
        self._watch, self._wallets = watch, wallets

    def report(self, request: ReportOutcomeRequest, caller: Identity) -> UUID:
        """The outcome's id, once it is in the outbox.

        It follows from the request_id and the report: the same report twice counts once.
        Raises NotFound for a decision that this tenant was not given.
        """
        decision_id = fields.uuid(request.decision_id, "decision_id")
        self._decisions.ours(caller.tenant_id, decision_id)
        request_id = fields.optional_uuid(request.request_id, "request_id")
        digest = hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
        outcome_id = derived_uuid7(
            time_of(decision_id), caller.tenant_id.hex, str(request_id or ""), digest.hex()
        )
        row = self._row(request, caller.tenant_id, decision_id, outcome_id)
        self._outbox.put(
            Record(
                kind=Kind.OUTCOME,
                tenant_id=caller.tenant_id,
                key=request_id or outcome_id,
                row_id=outcome_id,
                digest=digest,
                row=row,
            )
        )
        self._show(request, caller.tenant_id, decision_id)
        self._spend(request, caller.tenant_id, decision_id)
        return outcome_id

    def _spend(self, request: ReportOutcomeRequest, tenant_id: UUID, decision_id: UUID) -> None:
        """Counts what the attempt cost against its budgets."""
        cost_usd = fields.amount(request, "cost_usd")
        if cost_usd is not None:
            self._wallets.spent(tenant_id, decision_id, request.attempt, cost_usd)

    def _show(self, request: ReportOutcomeRequest, tenant_id: UUID, decision_id: UUID) -> None:
        """Says what the attempt shows of its backend; a refusal shows what the query was like."""
        if request.error == Failure.REFUSED:
            return
        self._watch(
            Reported(
                tenant_id=tenant_id,
                decision_id=decision_id,
                attempt=request.attempt,
                now_s=self._clock().timestamp(),
                latency_s=fields.amount(request, "latency_s"),
                failed=bool(request.error),
                first_token_s=fields.amount(request, "time_to_first_token_s"),
                output_tokens=fields.count(request, "output_tokens"),
            )
        )

    def _row(
        self,
        request: ReportOutcomeRequest,
        tenant_id: UUID,
        decision_id: UUID,
        outcome_id: UUID,
    ) -> bytes:
        return dump(
            {
                "tenant_id": tenant_id,
                "decided_at": time_of(decision_id),
                "outcome_id": outcome_id,
                "decision_id": decision_id,
                "occurred_at": fields.time(request, "occurred_at", self._clock()),
                "attempt": attempt_number(request.attempt, MOST_ATTEMPT),
                "score": fields.share(request, "score"),
                "source": fields.short(request.source, "source", 64) or "unspecified",
                "cost_usd": fields.amount(request, "cost_usd"),
                "input_tokens": fields.count(request, "input_tokens"),
                "output_tokens": fields.count(request, "output_tokens"),
                "latency_s": fields.amount(request, "latency_s"),
                "time_to_first_token_s": fields.amount(request, "time_to_first_token_s"),
                "confidence": fields.finite(request, "confidence"),
                "error": fields.short(request.error, "error", 4_000) or None,
            }
        )


def attempt_number(value: int, most: int) -> int:
    """The number of an attempt, from 0. Raises InvalidInput."""
    if not 0 <= value <= most:
        raise InvalidInput(f"{value} is not from 0 to {most}", field="attempt")
    return value
