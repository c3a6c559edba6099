"""Continue: after an attempt, keep its answer or name the next arm.

What was said of an attempt is read back from the outboxes of this machine, or from
Postgres: nothing is carried in messages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any
from uuid import UUID

from router.errors import Conflict, Infeasible, InvalidInput, OutboxFull, Unavailable
from router.ids import time_of
from router.pipeline import go_on
from router.policy.continuation import MAX_ATTEMPTS, Step, Tried
from router.requested import again
from router.serving import fields
from router.serving.budgets import Wallets
from router.serving.clock import Clock, utc_now
from router.serving.conversations import Conversations
from router.serving.decisions import Decisions, Row, attempt_id
from router.serving.outcomes import attempt_number
from router.serving.paying import Attempt, Paying
from router.serving.routing import Routing
from router.serving.rows import FIGURES, arm_of, dump, read
from router.serving.sightings import Reported, Watch, unwatched
from router.serving.state import Current, State
from router.serving.tenants import TenantDirectory
from router.slo import DEFAULT_SLO, Slo
from router.store.seams import Kind, Outbox, Record
from router.types import Evidence, Identity


class Continuing:
    """Decides what follows an attempt, and logs it."""

    def __init__(
        self,
        *,
        current: Current,
        outbox: Outbox,
        decisions: Decisions,
        tenants: TenantDirectory,
        routing: Routing,
        wallets: Wallets,
        clock: Clock = utc_now,
        watch: Watch = unwatched,
        conversations: Conversations | None = None,
    ) -> None:
        self._current, self._outbox, self._decisions = current, outbox, decisions
        self._tenants, self._routing, self._clock = tenants, routing, clock
        self._paying, self._watch = Paying(wallets), watch
        self._conversations = Conversations() if conversations is None else conversations

    async def go_on(
        self, decision_id: UUID, number: int, evidence: Evidence, caller: Identity
    ) -> Row:
        """The attempt's row, once it is in the outbox; the same evidence again: the same row.

        Raises NotFound for a decision of another tenant, InvalidInput for an attempt that
        was not asked for, and Conflict for other evidence of an attempt that has ended.
        """
        self._decisions.ours(caller.tenant_id, decision_id)
        attempt_number(number, MAX_ATTEMPTS - 1)
        evidence = _checked(evidence)
        ended = await self._ended(caller.tenant_id, decision_id, number)
        if ended is not None:
            return _same(ended, evidence)
        decision = await self._decisions.decision(caller.tenant_id, decision_id)
        before = await self._before(caller.tenant_id, decision_id, number)
        slo = await self.slo_of(decision, caller.tenant_id)
        attempt = Attempt(
            tenant_id=caller.tenant_id,
            decision_id=decision_id,
            decision=decision,
            number=number,
            arm=before[-1]["next_arm"] if before else decision["arm"],
            evidence=evidence,
        )
        await self._paying.ready(attempt, slo, self._current.state.policy.table)
        return self._log(attempt, before, slo)

    async def _ended(self, tenant_id: UUID, decision_id: UUID, number: int) -> Row | None:
        """What was said of the attempt already.

        While Postgres is away it is planned anew, and the log keeps what was said first.
        """
        try:
            return await self._decisions.attempt(tenant_id, decision_id, number)
        except (Unavailable, OutboxFull):
            return None

    async def _before(self, tenant_id: UUID, decision_id: UUID, number: int) -> list[Row]:
        rows = []
        for earlier in range(number):
            row = await self._decisions.attempt(tenant_id, decision_id, earlier)
            if row is None or row["next_arm"] is None:
                raise InvalidInput(
                    f"attempt {number} was not asked for; continue attempt {earlier} first",
                    field="attempt",
                )
            rows.append(row)
        return rows

    async def slo_of(self, decision: Row, tenant_id: UUID) -> Slo:
        """The slo as it was when the decision was made."""
        name, version = decision["slo_name"] or DEFAULT_SLO, decision["slo_version"] or 0
        if version == 0:
            return self._routing.slo("", {})
        return await self._tenants.slo_version(tenant_id, name, version)

    def _log(self, attempt: Attempt, before: list[Row], slo: Slo) -> Row:
        tenant_id, decision_id = attempt.tenant_id, attempt.decision_id
        row_id = attempt_id(tenant_id, decision_id, attempt.number)
        row = {
            "tenant_id": tenant_id,
            "decided_at": time_of(decision_id),
            "decision_id": decision_id,
            "attempt": attempt.number,
            "attempt_id": row_id,
            "occurred_at": self._clock(),
            **self._plan(attempt, before, slo),
        }
        record = Record(
            kind=Kind.ATTEMPT,
            tenant_id=tenant_id,
            key=row_id,
            row_id=row_id,
            digest=hashlib.sha256(repr(attempt.evidence).encode()).digest(),
            row=dump(row),
        )
        kept = None
        try:
            kept = self._put(record, attempt.number)
        finally:
            if kept is not record and row["next_arm"] is not None:
                self._paying.release(attempt)
        self._watch(_reported(attempt, row))
        said = read(kept.row)
        self._note(attempt, before, said)
        return said

    def _note(self, attempt: Attempt, before: list[Row], said: Row) -> None:
        """Tells the conversation which model it is with now: the next, or that of what is kept."""
        conversation_id = attempt.decision.get("conversation_id")
        if conversation_id:
            arms = [*(row["arm"] for row in before), attempt.arm]
            self._conversations.continued(
                attempt.tenant_id,
                conversation_id,
                model=arm_of(said["next_arm"] or arms[said["evidence"]["best"]]).model,
                input_tokens=attempt.decision["input_tokens"] or 0,
                now=self._clock(),
            )

    def _put(self, record: Record, number: int) -> Record:
        try:
            return self._outbox.put(record)
        except Conflict:
            raise _other_evidence(number) from None

    def _plan(self, attempt: Attempt, before: list[Row], slo: Slo) -> Mapping[str, Any]:
        """The columns of the attempts table that the policy decides."""
        state = self._current.state.that_decided(attempt.decision["policy_version"])
        step, reason = self._step(attempt, before, slo, state)
        arm = arm_of(attempt.arm)
        key = None if step is None or step.next_index is None else state.keys[step.next_index]
        return {
            "arm": attempt.arm,
            "model": arm.model,
            "strategy": arm.strategy,
            "params": arm.params,
            "propensity": 1.0 if attempt.number else attempt.decision["propensity"],
            "evidence": _shown(attempt.evidence) | _planned(attempt, step),
            "keep": key is None,
            "next_arm": key,
            "accuracy": _predicted(attempt) if step is None else float(step.accuracy),
            "reason": reason,
        }

    def _step(
        self, attempt: Attempt, before: list[Row], slo: Slo, state: State
    ) -> tuple[Step | None, str]:
        ended = [(row["arm"], _logged(row["evidence"])) for row in before]
        ended.append((attempt.arm, attempt.evidence))
        if any(key not in state.arms for key, _ in ended):
            return None, "the arm has left the catalog; keep the answer"
        query, bounds = again(attempt.decision)
        tried = [Tried(index=state.keys.index(key), evidence=shown) for key, shown in ended]
        try:
            step = go_on(
                state.policy,
                query,
                slo,
                bounds,
                tried,
                conditions=self._paying.conditions(attempt, slo),
            )
            self._paying.reserve(attempt, slo, state.policy.table, step)
        except Infeasible as error:
            spent = error.reason == "BUDGET_EXHAUSTED"
            return None, "the budget is used up" if spent else "no other arm may be run"
        return step, "the policy has learnt no evidence" if step is None else step.reason


def _reported(attempt: Attempt, row: Row) -> Reported:
    """What the attempt shows of its backend."""
    return Reported(
        tenant_id=row["tenant_id"],
        decision_id=row["decision_id"],
        attempt=attempt.number,
        now_s=row["occurred_at"].timestamp(),
        latency_s=attempt.evidence.latency_s,
        failed=False,
        first_token_s=attempt.evidence.time_to_first_token_s,
        output_tokens=attempt.evidence.output_tokens,
    )


def _same(row: Row, evidence: Evidence) -> Row:
    """The row, if it was for this evidence. Raises Conflict."""
    if _logged(row["evidence"]) != evidence:
        raise _other_evidence(row["attempt"])
    return row


def _other_evidence(number: int) -> Conflict:
    return Conflict(
        f"attempt {number} has ended with other evidence; report each attempt once",
        reason="REQUEST_ID_REUSED",
    )


def _checked(evidence: Evidence) -> Evidence:
    """The evidence. Raises InvalidInput that names the field."""
    return Evidence(
        confidence=fields.finite(evidence.confidence, "confidence"),
        verifier_score=fields.share(evidence.verifier_score, "verifier_score"),
        output_tokens=fields.count(evidence.output_tokens, "output_tokens"),
        cost_usd=fields.amount(evidence.cost_usd, "cost_usd"),
        latency_s=fields.amount(evidence.latency_s, "latency_s"),
        time_to_first_token_s=fields.amount(
            evidence.time_to_first_token_s, "time_to_first_token_s"
        ),
    )


def _shown(evidence: Evidence) -> dict[str, Any]:
    return {name: value for name, value in asdict(evidence).items() if value is not None}


def _logged(row: Mapping[str, Any]) -> Evidence:
    return Evidence(**{name: row.get(name) for name in Evidence.__slots__})


def _planned(attempt: Attempt, step: Step | None) -> dict[str, Any]:
    """What a retry needs for the same reply: the best attempt, and the next arm's figures."""
    if step is None:
        return {"best": attempt.number}
    if step.next_index is None:
        return {"best": step.best}
    index = step.next_index
    figures = {name: getattr(step.predictions, name)[index] for name in FIGURES}
    return {"best": step.best, "next": figures}


def _predicted(attempt: Attempt) -> float:
    predicted = attempt.decision["predictions"]
    return float(predicted["accuracy"][predicted["arms"].index(attempt.decision["arm"])])
