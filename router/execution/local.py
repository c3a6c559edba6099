"""Decides in this process with a policy that is at hand: no server, no database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

import numpy as np

from router.errors import NotFound
from router.execution.calls import Failure, Message
from router.execution.deciding import Planned, Report, Request, Routed, Verdict
from router.execution.reading import text_of
from router.execution.standing_in import stand_in
from router.ids import uuid7
from router.pipeline import decide, go_on
from router.policy.continuation import Tried, affordable
from router.policy.policy import Policy
from router.slo import Slo
from router.types import Bounds, Catalog, Decision, Evidence, Floats, Model, Query


@dataclass(slots=True)
class _Open:
    """A decision and the attempts on it so far, by their arms' places."""

    decision: Decision
    query: Query
    bounds: Bounds
    tried: list[Tried]
    next: int


@dataclass(slots=True)
class LocalDecider:
    """The Decider of one caller with one slo; keeps all in memory. `reports` are in order."""

    policy: Policy
    catalog: Catalog
    slo: Slo = field(default_factory=Slo)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    reports: list[tuple[UUID, Report]] = field(default_factory=list)
    _open: dict[UUID, _Open] = field(default_factory=dict)

    async def route(self, request: Request) -> Routed:
        """As Decider says; a request_id is not remembered."""
        now = self.now()
        query = Query(
            text=conversation(request.task.messages),
            needs=request.needs,
            needs_context_tokens=request.needs_context_tokens,
        )
        decision = decide(
            self.policy, query, self.slo, request.bounds, decision_id=uuid7(now), now=now
        )
        index = decision.choice.index
        self._open[decision.decision_id] = _Open(decision, query, request.bounds, [], index)
        return Routed(
            decision_id=decision.decision_id,
            first=self._planned(decision, index),
            reason=decision.choice.reason,
            should_continue=decision.should_continue,
        )

    async def go_on(self, decision_id: UUID, attempt: int, evidence: Evidence) -> Verdict:
        """As Decider says."""
        known = self._found(decision_id)
        known.tried.append(Tried(index=known.next, evidence=evidence))
        step = go_on(self.policy, known.query, self.slo, known.bounds, known.tried)
        if step is None or step.next_index is None:
            best = attempt if step is None else step.best
            accuracy = known.decision.predictions.accuracy[known.next]
            return Verdict(
                following=None,
                best=best,
                accuracy=float(accuracy if step is None else step.accuracy),
                reason="the policy has learnt no evidence" if step is None else step.reason,
            )
        known.next = step.next_index
        following = self._planned(known.decision, known.next, step.predictions.accuracy)
        return Verdict(
            following=following, best=attempt, accuracy=step.accuracy, reason=step.reason
        )

    def leave(self, decision_id: UUID, attempt: int) -> None:
        """As Decider says; nothing was set aside."""

    async def instead(self, decision_id: UUID, attempt: int, failure: Failure) -> Planned | None:  # noqa: ARG002
        """As Decider says: the cheapest that is left."""
        known = self._found(decision_id)
        known.tried.append(Tried(index=known.next, evidence=Evidence()))
        decision = known.decision
        left = decision.choice.feasible & affordable(
            decision.predictions, known.tried, self.slo, known.bounds
        )
        order = [int(i) for i in np.argsort(decision.predictions.cost_usd) if left[i]]
        models = {model.name: model for model in self.catalog.models}
        tried = {each.index for each in known.tried}
        found = stand_in(order, decision.arms, models, tried)
        if found is None:
            return None
        known.next = found
        return self._planned(decision, found)

    async def report(self, decision_id: UUID, report: Report) -> None:
        """As Decider says."""
        self.reports.append((decision_id, report))

    def _found(self, decision_id: UUID) -> _Open:
        if decision_id not in self._open:
            raise NotFound(f"there is no decision {decision_id}", reason="DECISION_NOT_FOUND")
        return self._open[decision_id]

    def _planned(self, decision: Decision, index: int, accuracy: Floats | None = None) -> Planned:
        predictions, arm = decision.predictions, decision.arms[index]
        known = predictions.accuracy if accuracy is None else accuracy
        latency_s = float(predictions.latency_p50_s[index])
        return Planned(
            arm=arm,
            model=self._model(arm.model),
            accuracy=float(known[index]),
            cost_usd=float(predictions.cost_usd[index]),
            latency_s=None if np.isnan(latency_s) else latency_s,
        )

    def _model(self, name: str) -> Model:
        return self.catalog.model(name)


def conversation(messages: tuple[Message, ...]) -> str:
    """The messages as a policy reads them: one alone as it is, more each after its role."""
    texts = [(str(each.get("role", "")), text_of(each.get("content"))) for each in messages]
    if len(texts) == 1:
        return texts[0][1]
    return "\n".join(f"{role}: {text}" for role, text in texts if text)
