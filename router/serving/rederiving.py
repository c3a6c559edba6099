"""A logged decision derived again from what the store has of it, and held against its row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from router import pipeline
from router.conditions import Conditions
from router.errors import InvalidInput
from router.policy.policy import Policy
from router.requested import again
from router.serving.rows import FIGURES
from router.slo import Slo
from router.types import Decision, PolicySource

Row = Mapping[str, Any]

_COLUMNS = (
    *("arm", "propensity", "explored", "difficulty", "slo_status", "reason"),
    *("should_continue", "novelty", "reasons"),
)


def rederive(row: Row, slo: Slo, policy: Policy) -> Decision:
    """Decides again, by the policy that decided, as the row says that it was asked.

    Raises InvalidInput for history that was imported, or whose text is gone, and what
    `decide` raises.
    """
    if row["policy_source"] == PolicySource.IMPORT:
        raise InvalidInput("it was imported, not decided here; there is nothing to derive")
    if row["query"] is None:
        raise InvalidInput("the text of its query is gone; it cannot be derived again")
    query, bounds = again(row)
    rate = (row["request"] or {}).get("exploration_rate")
    return pipeline.decide(
        policy,
        query,
        slo if rate is None else replace(slo, exploration_rate=rate),
        bounds,
        decision_id=row["decision_id"],
        now=row["occurred_at"],
        conditions=Conditions.from_mapping(row["conditions"]),
    )


def differences(row: Row, decision: Decision) -> Iterator[tuple[str, Any, Any]]:
    """Where the decision is not what the row says: the name, what was logged, and what it is."""
    derived = {
        "arm": decision.arm.key,
        "propensity": decision.choice.propensity,
        "explored": decision.choice.explored,
        "difficulty": decision.difficulty,
        "slo_status": decision.choice.slo_status.value,
        "reason": decision.choice.reason,
        "should_continue": decision.should_continue,
        "novelty": decision.novelty,
        "reasons": [reason.to_mapping() for reason in decision.choice.reasons] or None,
    }
    for name in _COLUMNS:
        if row[name] != derived[name]:
            yield name, row[name], derived[name]
    feasible = np.flatnonzero(decision.choice.feasible).tolist()
    if row["feasible"] != feasible:
        yield "feasible", row["feasible"], feasible
    yield from _predicted(row["predictions"], decision)


def _predicted(logged: Mapping[str, Any], decision: Decision) -> Iterator[tuple[str, Any, Any]]:
    keys = [arm.key for arm in decision.arms]
    if logged["arms"] != keys:
        yield "arms", logged["arms"], keys
        return
    for name in FIGURES:
        before = np.array(logged[name], np.float32)
        now = getattr(decision.predictions, name).astype(np.float32)
        if not np.array_equal(before, now, equal_nan=True):
            yield f"predictions.{name}", before.tolist(), now.tolist()
