"""After an attempt whose backend failed: the next feasible arm, logged as Continue logs its own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

import numpy as np

from router.errors import Conflict, Infeasible
from router.execution.calls import Failure
from router.execution.standing_in import stand_in
from router.ids import time_of
from router.policy.continuation import MAX_ATTEMPTS, Tried, affordable
from router.requested import again
from router.serving.budgets import Wallets
from router.serving.clock import Clock, utc_now
from router.serving.continuing import Continuing
from router.serving.decisions import Decisions, Row, attempt_id
from router.serving.rows import FIGURES, arm_of, dump, read
from router.serving.state import Current
from router.slo import Slo
from router.store.seams import Kind, Outbox, Record
from router.types import Evidence, Identity, Predictions


class StandingIn:
    """Names the arm that stands in for one that failed, and logs that it does."""

    def __init__(
        self,
        *,
        current: Current,
        outbox: Outbox,
        decisions: Decisions,
        continuing: Continuing,
        wallets: Wallets,
        clock: Clock = utc_now,
    ) -> None:
        self._current, self._outbox, self._decisions = current, outbox, decisions
        self._continuing, self._wallets, self._clock = continuing, wallets, clock

    async def instead(
        self, caller: Identity, decision_id: UUID, number: int, failure: Failure
    ) -> Row | None:
        """The row of the attempt that failed, whose `next_arm` follows; None without one.

        That arm is of the decision's feasible set, of another model, within what the slo's
        bounds and budgets leave. Asked again, the answer is the same.
        """
        if number + 1 >= MAX_ATTEMPTS:
            return None
        ended = await self._decisions.attempt(caller.tenant_id, decision_id, number)
        if ended is not None:
            return ended if ended["next_arm"] else None
        decision = await self._decisions.decision(caller.tenant_id, decision_id)
        slo = await self._continuing.slo_of(decision, caller.tenant_id)
        before = [
            await self._decisions.attempt(caller.tenant_id, decision_id, earlier)
            for earlier in range(number)
        ]
        keys = [decision["arm"], *(row["next_arm"] for row in before if row is not None)]
        place = self._following(decision, slo, keys)
        if place is None or not self._reserved(caller, decision, slo, number, place):
            return None
        return self._log(caller, decision, number, failure, keys=(keys[-1], place))

    def _following(self, decision: Row, slo: Slo, keys: Sequence[str]) -> int | None:
        """The place of the arm that follows those with these keys, among the decision's arms."""
        predicted = decision["predictions"]
        named: list[str] = predicted["arms"]
        _, bounds = again(decision)
        tried = [Tried(index=named.index(key), evidence=Evidence()) for key in keys]
        left = affordable(_predictions(predicted), tried, slo, bounds)
        usable = {
            place
            for place in decision["feasible"]
            if left[place] and named[place] in self._current.state.arms
        }
        by_cost = sorted(usable, key=lambda place: predicted["cost_usd"][place])
        ranked = [place for place in predicted["alternatives"] if place in usable]
        models = {model.name: model for model in self._current.state.catalog.models}
        order = list(dict.fromkeys((*ranked, *by_cost)))
        return stand_in(order, [arm_of(key) for key in named], models, [t.index for t in tried])

    def _reserved(self, caller: Identity, decision: Row, slo: Slo, number: int, place: int) -> bool:
        """Sets the next attempt's cost aside; whether budgets leave it."""
        key, table = decision["predictions"]["arms"][place], self._current.state.policy.table
        most_usd = table.most_usd(decision["input_tokens"] or 0)
        try:
            self._wallets.reserve_next(
                caller.tenant_id,
                slo,
                UUID(str(decision["decision_id"])),
                number + 1,
                expected_usd=float(decision["predictions"]["cost_usd"][place]),
                most_usd=float(most_usd[self._current.state.keys.index(key)]),
            )
        except Infeasible:
            return False
        return True

    def _log(
        self,
        caller: Identity,
        decision: Row,
        number: int,
        failure: Failure,
        *,
        keys: tuple[str, int],
    ) -> Row:
        """The attempt's row; `keys` are its arm's and the place of the one that follows."""
        (key, place), predicted = keys, decision["predictions"]
        identifier = UUID(str(decision["decision_id"]))
        arm, row_id = arm_of(key), attempt_id(caller.tenant_id, identifier, number)
        row = {
            "tenant_id": caller.tenant_id,
            "decided_at": time_of(identifier),
            "decision_id": identifier,
            "attempt": number,
            "attempt_id": row_id,
            "occurred_at": self._clock(),
            "arm": key,
            "model": arm.model,
            "strategy": arm.strategy,
            "params": arm.params,
            "propensity": 1.0 if number else decision["propensity"],
            "evidence": {
                "best": number + 1,
                "next": {name: predicted[name][place] for name in FIGURES},
            },
            "keep": False,
            "next_arm": predicted["arms"][place],
            "accuracy": predicted["accuracy"][place],
            "reason": f"its backend failed: {failure}",
        }
        record = Record(
            kind=Kind.ATTEMPT,
            tenant_id=caller.tenant_id,
            key=row_id,
            row_id=row_id,
            digest=hashlib.sha256(f"failed {failure}".encode()).digest(),
            row=dump(row),
        )
        with suppress(Conflict):
            record = self._outbox.put(record)
        return read(record.row)


def _predictions(predicted: Mapping[str, Any]) -> Predictions:
    """The figures of a decision's row; null is NaN."""
    return Predictions(**{name: np.array(predicted[name], np.float64) for name in FIGURES})
