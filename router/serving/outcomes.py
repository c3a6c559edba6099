"""ReportOutcome: from a report to an outcome in the outbox."""

from __future__ import annotations

import hashlib
from uuid import UUID

import orjson

from router.clients.values import OutcomeReport
from router.errors import InvalidInput
from router.execution.calls import Failure
from router.ids import derived_uuid7, time_of
from router.serving import fields
from router.serving.budgets import Wallets
from router.serving.clock import Clock, utc_now
from router.serving.decisions import Decisions
from router.serving.rows import Row, dump
from router.serving.sightings import Reported, Watch, unwatched
from router.store.seams import Kind, Outbox, Record
from router.types import Identity

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

    def report(self, told: OutcomeReport, caller: Identity, digest: bytes | None = None) -> UUID:
        """The outcome's id, once it is in the outbox.

        It follows from the request_id and the report's digest, which is of its fields unless
        one is given: the same report twice counts once. Raises InvalidInput, and NotFound for
        a decision that this tenant was not given.
        """
        decision_id, request_id = fields.uuid(str(told.decision_id), "decision_id"), told.request_id
        self._decisions.ours(caller.tenant_id, decision_id)
        digest = digest or hashlib.sha256(orjson.dumps(told)).digest()
        decided_at = time_of(decision_id)
        outcome_id = derived_uuid7(
            decided_at, caller.tenant_id.hex, str(request_id or ""), digest.hex()
        )
        seen = _seen(told)
        row = {
            "tenant_id": caller.tenant_id,
            "decided_at": decided_at,
            "outcome_id": outcome_id,
            "decision_id": decision_id,
            "occurred_at": told.occurred_at or self._clock(),
            **seen,
        }
        self._outbox.put(
            Record(
                kind=Kind.OUTCOME,
                tenant_id=caller.tenant_id,
                key=request_id or outcome_id,
                row_id=outcome_id,
                digest=digest,
                row=dump(row),
            )
        )
        self._show(seen, caller.tenant_id, decision_id)
        if seen["cost_usd"] is not None:
            self._wallets.spent(caller.tenant_id, decision_id, told.attempt, seen["cost_usd"])
        return outcome_id

    def _show(self, seen: Row, tenant_id: UUID, decision_id: UUID) -> None:
        """Says what the attempt shows of its backend; a refusal shows what the query was like."""
        if seen["error"] == Failure.REFUSED:
            return
        self._watch(
            Reported(
                tenant_id=tenant_id,
                decision_id=decision_id,
                attempt=seen["attempt"],
                now_s=self._clock().timestamp(),
                latency_s=seen["latency_s"],
                failed=bool(seen["error"]),
                first_token_s=seen["time_to_first_token_s"],
                output_tokens=seen["output_tokens"],
            )
        )


def _seen(told: OutcomeReport) -> Row:
    """What was seen of an attempt, as columns. Raises InvalidInput that names the field."""
    return {
        "attempt": attempt_number(told.attempt, MOST_ATTEMPT),
        "score": fields.share(told.score, "score"),
        "source": fields.short(told.source, "source", 64) or "unspecified",
        "cost_usd": fields.amount(told.cost_usd, "cost_usd"),
        "input_tokens": fields.count(told.input_tokens, "input_tokens"),
        "output_tokens": fields.count(told.output_tokens, "output_tokens"),
        "latency_s": fields.amount(told.latency_s, "latency_s"),
        "time_to_first_token_s": fields.amount(told.time_to_first_token_s, "time_to_first_token_s"),
        "confidence": fields.finite(told.confidence, "confidence"),
        "error": fields.short(told.error, "error", 4_000) or None,
    }


def attempt_number(value: int, most: int) -> int:
    """The number of an attempt, from 0. Raises InvalidInput."""
    if not 0 <= value <= most:
        raise InvalidInput(f"{value} is not from 0 to {most}", field="attempt")
    return value
