"""Route: from a request to a decision in the outbox, whose row is the reply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from router.errors import Infeasible, LeadlineError, NotFound
from router.explanation import Explanation
from router.ids import decision_id, time_of, uuid7
from router.pipeline import Case, decide_many
from router.policy.canary import unit_of
from router.policy.explain import LEAST_ROWS, explain
from router.policy.policy import Predicted
from router.serving.asked import Asked, check
from router.serving.clock import Clock, utc_now
from router.serving.grouping import Group, joined
from router.serving.rows import Row, alternatives, decision_row, dump, read
from router.serving.state import Current, State
from router.serving.surroundings import Surroundings
from router.serving.telemetry import Metrics
from router.serving.tenants import NamedSlos
from router.slo import DEFAULT_SLO, Slo
from router.store.seams import Kind, Outbox, Record
from router.types import Decision, Identity


@dataclass(slots=True, kw_only=True)
class Waiting:
    """A request that was read and waits for its answer."""

    question: Asked
    caller: Identity
    slos: NamedSlos


@dataclass(slots=True, kw_only=True)
class _Draft:
    """A decision that is not yet in the outbox."""

    question: Asked
    decision: Decision
    row: Mapping[str, Any]
    record: Record


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
        surroundings: Surroundings,
        clock: Clock = utc_now,
    ) -> None:
        self._current, self._outbox, self._key, self._metrics = current, outbox, key, metrics
        self._max_query_bytes = max_query_bytes
        self._without_slo = Slo(exploration_rate=exploration_rate)
        self._surroundings, self._clock = surroundings, clock

    def take(self, question: Asked, caller: Identity, slos: NamedSlos) -> Waiting:
        """The request, which may be answered. Raises what `check` does."""
        check(question, arms=self._current.state.arms, max_query_bytes=self._max_query_bytes)
        return Waiting(question=question, caller=caller, slos=slos)

    async def ready(self, waiting: Waiting) -> None:
        """Sees to what must be there before `answer`. Raises Unavailable."""
        slo = self.slo(waiting.question.slo_name, waiting.slos)
        if slo.has_budgets:
            tenant_id, table = waiting.caller.tenant_id, self._current.state.policy.table
            await self._surroundings.ready(tenant_id, slo, table, waiting.question)

    def answer(self, waiting: Sequence[Waiting]) -> list[Row | LeadlineError]:
        """The decisions' rows, once all are in the outbox; they share one state.

        A request_id that was answered before gets the same decision again, and Conflict
        (REQUEST_ID_REUSED) in its place when it came with another body.
        """
        state, now = self._current.state, self._clock()
        if state.canary is None:
            return self._answer(waiting, state, now)
        tried = [place for place, each in enumerate(waiting) if _is_tried(each, state, now)]
        replies = self._try(waiting, tried, state, now)
        left = [place for place in range(len(waiting)) if place not in replies]
        ours = self._answer([waiting[place] for place in left], state, now) if left else []
        replies |= zip(left, ours, strict=True)
        return [replies[place] for place in range(len(waiting))]

    def _try(
        self, waiting: Sequence[Waiting], places: Sequence[int], state: State, now: datetime
    ) -> dict[int, Row | LeadlineError]:
        """The canary's rows at their places; none where it fails, which ends it here."""
        if not places or state.canary is None:
            return {}
        try:
            ours = self._answer([waiting[place] for place in places], state.canary, now)
        except Exception:  # noqa: BLE001 (the active policy answers)
            self._metrics.canary_failures.inc()
            if self._current.state is state:
                self._current.state = state.beside(None, 0.0)
            return {}
        return dict(zip(places, ours, strict=True))

    def _answer(
        self, waiting: Sequence[Waiting], state: State, now: datetime
    ) -> list[Row | LeadlineError]:
        """The rows of one policy."""
        predicted = state.policy.predict([each.question.query.text for each in waiting])
        drafts = self._drafts(waiting, predicted, state, now)
        made = [draft for draft in drafts if isinstance(draft, _Draft)]
        stored = iter(self._store(made))
        return [
            self._said(draft, next(stored), now) if isinstance(draft, _Draft) else draft
            for draft in drafts
        ]

    def _store(self, drafts: Sequence[_Draft]) -> Sequence[Record | LeadlineError]:
        """Puts the drafts into the outbox; where that fails they hold nothing any more."""
        try:
            return self._outbox.put_many([draft.record for draft in drafts])
        except BaseException:
            for draft in drafts:
                self._surroundings.withdrawn(draft.record.tenant_id, draft.decision)
            raise

    def slo(self, name: str, slos: NamedSlos) -> Slo:
        """The slo that a request names. Raises NotFound; without a name there is always one."""
        found = slos.get(name or DEFAULT_SLO)
        if found is not None:
            return found
        if name and name != DEFAULT_SLO:
            raise NotFound(
                f"this tenant has no slo {name!r:.80}; write it with 'leadline slos set'",
                reason="SLO_NOT_FOUND",
            )
        return self._without_slo

    def _drafts(
        self,
        waiting: Sequence[Waiting],
        predicted: Sequence[Predicted],
        state: State,
        now: datetime,
    ) -> list[_Draft | Row | LeadlineError]:
        """A draft of each decision, or what stands in its place.

        Requests that an slo, bounds and conditions are the same for are decided together;
        where budgets are, each is decided alone, since it leaves less to the next.
        """
        drafts: dict[int, _Draft | Row | LeadlineError] = {}
        groups: list[Group] = []
        for place, (each, known) in enumerate(zip(waiting, predicted, strict=True)):
            try:
                group = self._group(each, state, now)
            except LeadlineError as error:
                drafts[place] = self._instead(each, error)
                continue
            case = self._case(each, known, now)
            if group.slo.has_budgets:
                group.add(place, case)
                drafts |= self._decide(group, waiting, state)
            else:
                joined(group, groups).add(place, case)
        for group in groups:
            drafts |= self._decide(group, waiting, state)
        return [drafts[place] for place in range(len(waiting))]

    def _group(self, waiting: Waiting, state: State, now: datetime) -> Group:
        question, tenant_id = waiting.question, waiting.caller.tenant_id
        slo = self.slo(question.slo_name, waiting.slos)
        version = state.policy.version
        conditions = self._surroundings.conditions(tenant_id, slo, question, version, now)
        return Group(slo=slo, bounds=question.bounds, conditions=conditions)

    def _case(self, waiting: Waiting, known: Predicted, now: datetime) -> Case:
        """Decides at the time of the id, which a caller may have set, on what holds now."""
        question, tenant_id = waiting.question, waiting.caller.tenant_id
        identifier = decision_id(
            tenant_id, question.request_id, now, self._key, digest=question.digest
        )
        return Case(
            decision_id=identifier,
            now=time_of(identifier),
            query=question.query,
            predicted=known,
        )

    def _decide(
        self, group: Group, waiting: Sequence[Waiting], state: State
    ) -> dict[int, _Draft | Row | LeadlineError]:
        """The drafts of a group by their places."""
        slo, conditions = group.slo, group.conditions
        value_usd = state.value_usd(slo, conditions.promise)
        decided = decide_many(state.policy, group.cases, slo, group.bounds, conditions=conditions)
        return {
            place: self._drafted(waiting[place], decision, state, case.predicted, value_usd)
            for place, case, decision in zip(group.places, group.cases, decided, strict=True)
        }

    def _drafted(
        self,
        waiting: Waiting,
        decided: Decision | Infeasible,
        state: State,
        known: Predicted,
        value_usd: float | None,
    ) -> _Draft | Row | LeadlineError:
        """A decision with its row, set aside for; where it may not be, what stands for it."""
        try:
            if isinstance(decided, Infeasible):
                raise decided
            draft = self._written(waiting, decided, state, known, value_usd)
            self._surroundings.reserve(waiting.caller.tenant_id, decided, state.policy.table)
        except LeadlineError as error:
            return self._instead(waiting, error)
        return draft

    def _instead(self, waiting: Waiting, error: LeadlineError) -> Row | LeadlineError:
        """What the same request got earlier, or else the error."""
        earlier = self._earlier(waiting.question, waiting.caller.tenant_id)
        return error if earlier is None else read(earlier.row)

    def _written(
        self,
        waiting: Waiting,
        decision: Decision,
        state: State,
        known: Predicted,
        value_usd: float | None,
    ) -> _Draft:
        question, tenant_id = waiting.question, waiting.caller.tenant_id
        others = alternatives(decision, value_usd)
        explanation = _explained(question, decision, state, known) if question.explain else None
        row = decision_row(
            decision, question, tenant_id, state.keys, others, explanation=explanation
        )
        record = self._record(question, tenant_id, decision.decision_id, dump(row))
        return _Draft(question=question, decision=decision, row=row, record=record)

    def _said(
        self, draft: _Draft, stored: Record | LeadlineError, now: datetime
    ) -> Row | LeadlineError:
        """The row that is in the outbox for a draft: its own, or that of the same request."""
        tenant_id = draft.record.tenant_id
        if stored is not draft.record:
            self._surroundings.withdrawn(tenant_id, draft.decision)
        if isinstance(stored, LeadlineError):
            return stored
        if stored is not draft.record:
            return read(stored.row)
        self._surroundings.logged(tenant_id, draft.question, draft.decision, now)
        self._metrics.decided(draft.decision)
        return draft.row

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


def _is_tried(waiting: Waiting, state: State, now: datetime) -> bool:
    """Whether the canary decides: users and conversations stay on one side, and so do retries."""
    question = waiting.question
    unit = unit_of(question.conversation_id, question.subject)
    unit = unit or str(question.request_id or uuid7(now))
    return state.side(waiting.caller.tenant_id, unit) is not state


def _explained(question: Asked, decision: Decision, state: State, known: Predicted) -> Explanation:
    """What a caller may learn of what moved the choice."""
    query, bounds = question.query, question.bounds
    return explain(state.policy, known, decision, query, bounds, least_rows=LEAST_ROWS)
