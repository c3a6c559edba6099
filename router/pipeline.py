"""The data's way through one decision, and nothing else.

query -> context -> predictions per arm -> feasible set -> choice (+ exploration) -> decision
decision + evidence -> keep the answer, or the next arm
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from uuid import UUID

import numpy as np

from router.conditions import PLAIN, Conditions
from router.errors import Infeasible
from router.policy.choice import choose
from router.policy.continuation import Aim, Step, Tried, plan
from router.policy.energy import emitted_gco2e
from router.policy.exploration import explore
from router.policy.planning import Ahead, Continuation, planned
from router.policy.policy import Policy, Predicted
from router.policy.standing import Standing, stand
from router.policy.worth import Worth
from router.slo import Slo
from router.types import Bounds, Choice, Decision, Predictions, Query


def decide(
    policy: Policy,
    query: Query,
    slo: Slo,
    bounds: Bounds,
    *,
    decision_id: UUID,
    now: datetime,
    predicted: Predicted | None = None,
    conditions: Conditions = PLAIN,
) -> Decision:
    """Decides for one query. The same arguments give the same decision, bit for bit.

    `predicted` is the policy's own, where it was worked out for many queries together.
    Exploration draws from the decision's id. Raises Infeasible when no arm may be run, when
    none meets the slo and the slo says reject, or when the budget is used up.
    """
    if not policy.arms:
        raise Infeasible("the catalog has no enabled arm; add some first", reason="NO_ARMS")
    known = predicted or policy.predict([query.text])[0]
    query = query if query.input_tokens else replace(query, input_tokens=known.context.input_tokens)
    standing = stand(policy.table, known, slo, conditions, query.input_tokens)
    aim = policy.aim(slo, bounds, conditions, standing.novelty)
    choice = first(policy, standing, query, slo, bounds, aim=aim, conditions=conditions)
    choice = explore(choice, slo.exploration_rate, uniform(decision_id))
    predictions = standing.predictions
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
        should_continue=_worth_waiting(
            policy, standing, choice, Aim.of(slo, aim), willing=bounds.may_continue
        ),
        conditions=conditions,
        novelty=standing.novelty,
        gco2e=float(emitted_gco2e(policy.table, predictions.energy_wh)[choice.index]),
    )


def first(
    policy: Policy,
    standing: Standing,
    query: Query,
    slo: Slo,
    bounds: Bounds,
    *,
    aim: Worth,
    conditions: Conditions = PLAIN,
    ahead: Ahead | None = None,
) -> Choice:
    """Chooses the first arm, before exploration; planned, when the caller may continue.

    `aim` is the policy's for this slo and query, and so is `ahead`, where it was worked out
    for many queries together.
    """
    utility, continuation = None, policy.planning(bounds)
    if continuation is not None:
        known_ahead = partial(_ahead, continuation, standing.predictions, ahead)
        utility = planned(known_ahead, standing, slo, bounds)
    checks = tuple(policy.table.checks(query, slo, bounds, conditions))
    return choose(
        standing,
        policy.table.left(checks),
        slo,
        bounds,
        aim,
        checks=checks,
        safe=policy.table.place(slo.safe_arm) if slo.safe_arm else None,
        utility=utility,
    )


def _ahead(continuation: Continuation, predictions: Predictions, known: Ahead | None) -> Ahead:
    return known or continuation.ahead(predictions.accuracy[None])


def go_on(
    policy: Policy,
    query: Query,
    slo: Slo,
    bounds: Bounds,
    tried: Sequence[Tried],
    *,
    predicted: Predicted | None = None,
    conditions: Conditions = PLAIN,
) -> Step | None:
    """Decides what follows the attempts so far; None when the policy learnt no evidence."""
    continuation = policy.informing
    if continuation is None:
        return None
    known = predicted or policy.predict([query.text])[0]
    standing = stand(policy.table, known, slo, conditions, query.input_tokens)
    return plan(
        standing,
        policy.table.eligible(query, slo, bounds, conditions),
        tried,
        slo,
        bounds,
        evidence=continuation.evidence,
        aim=Aim.of(slo, policy.aim(slo, bounds, conditions, standing.novelty)),
    )


def _worth_waiting(
    policy: Policy, standing: Standing, choice: Choice, aim: Aim, *, willing: bool
) -> bool:
    """Whether a second attempt after the chosen arm is expected to add anything.

    A willing caller is told so wherever what the attempt may show could make it pay.
    """
    continuation = policy.informing
    if continuation is None:
        return False
    if aim.floor is not None:
        return continuation.evidence.informs(choice.index)
    cost_usd = np.where(choice.feasible, standing.weighed_usd, np.inf)
    known = choice.index, standing.predictions.accuracy, cost_usd, aim.value_usd
    if willing:
        return continuation.may_pay(*known)
    return continuation.gain_usd(*known) > 0.0


def uniform(decision_id: UUID) -> float:
    """A number in [0, 1) that is uniform over decision ids and fixed for each."""
    digest = hashlib.blake2b(decision_id.bytes, digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)
