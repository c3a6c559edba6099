"""The data's way through one decision, and nothing else.

query -> context -> predictions per arm -> feasible set -> choice (+ exploration) -> decision
decision + evidence -> keep the answer, or the next arm
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from router.errors import Infeasible
from router.policy.choice import choose
from router.policy.continuation import Step, Tried, plan
from router.policy.exploration import explore
from router.policy.policy import Policy, Predicted
from router.types import Bounds, Decision, Query, Slo


def decide(
    policy: Policy,
    query: Query,
    slo: Slo,
    bounds: Bounds,
    *,
    decision_id: UUID,
    now: datetime,
    predicted: Predicted | None = None,
) -> Decision:
    """Decides for one query. The same arguments give the same decision, bit for bit.

    `predicted` is the policy's own, where it was worked out for many queries together.
    Exploration draws from the decision's id. Raises Infeasible when no arm may be run, or
    when none meets the slo and the slo says reject.
    """
    if not policy.arms:
        raise Infeasible("the catalog has no enabled arm; add some first", reason="NO_ARMS")
    known = predicted or policy.predict([query.text])[0]
    predictions = known.predictions
    query = query if query.input_tokens else replace(query, input_tokens=known.context.input_tokens)
    eligible = policy.table.eligible(query, slo, bounds)
    choice = choose(predictions, eligible, slo, bounds, policy.tradeoff)
    choice = explore(choice, slo.exploration_rate, uniform(decision_id))
    evidence = policy.evidence
    return Decision(
        decision_id=decision_id,
        occurred_at=now,
        arms=policy.arms,
        predictions=predictions,
        choice=choice,
        difficulty=policy.difficulty(predictions.accuracy, predictions.cost_usd),
        input_tokens=query.input_tokens,
        slo=slo,
        policy_version=policy.version,
        policy_source=policy.source,
        should_continue=evidence is not None and evidence.informs(choice.index),
    )


def go_on(
    policy: Policy,
    query: Query,
    slo: Slo,
    bounds: Bounds,
    tried: Sequence[Tried],
    *,
    predicted: Predicted | None = None,
) -> Step | None:
    """Decides what follows the attempts so far; None when the policy learnt no evidence."""
    if policy.evidence is None or policy.tradeoff is None:
        return None
    known = predicted or policy.predict([query.text])[0]
    return plan(
        known.predictions,
        policy.table.eligible(query, slo, bounds),
        tried,
        slo,
        bounds,
        evidence_model=policy.evidence,
        tradeoff=policy.tradeoff,
    )


def uniform(decision_id: UUID) -> float:
    """A number in [0, 1) that is uniform over decision ids and fixed for each."""
    digest = hashlib.blake2b(decision_id.bytes, digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)
