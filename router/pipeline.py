"""The data's way through one decision, and nothing else.

query -> context -> predictions per arm -> feasible set -> choice (+ exploration) -> decision
decision + evidence -> keep the answer, or the next arm
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from uuid import UUID

from router.conditions import PLAIN, Conditions
from router.errors import Infeasible
from router.policy.continuation import Aim, Step, Tried, plan
from router.policy.energy import emitted_gco2e
from router.policy.exploration import Exploring, explore, exploring, probabilities
from router.policy.first import first, worth_waiting
from router.policy.guard import guarded, viewed
from router.policy.novelty import is_novel
from router.policy.policy import Policy, Predicted
from router.policy.standing import Standing, Together, restand, stand
from router.policy.table import ArmTable
from router.policy.worth import Worth
from router.slo import Slo
from router.types import Bounds, Choice, Decision, Floats, Query


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One query to decide about at `now`; `predicted` is the policy's own."""

    decision_id: UUID
    now: datetime
    query: Query
    predicted: Predicted

    @property
    def input_tokens(self) -> int:
        """The query's input tokens, counted where the caller did not say."""
        return self.query.input_tokens or self.predicted.context.input_tokens


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
    known = predicted or policy.predict([query.text])[0]
    case = Case(decision_id=decision_id, now=now, query=query, predicted=known)
    [decided] = decide_many(policy, [case], slo, bounds, conditions=conditions)
    if isinstance(decided, Infeasible):
        raise decided
    return decided


def decide_many(
    policy: Policy,
    cases: Sequence[Case],
    slo: Slo,
    bounds: Bounds,
    *,
    conditions: Conditions = PLAIN,
) -> list[Decision | Infeasible]:
    """Decides for queries that share an slo, bounds and conditions, as `decide` would each.

    Together they cost less. Where `decide` would raise, the error stands instead.
    """
    if not policy.arms:
        error = Infeasible("the catalog has no enabled arm; add some first", reason="NO_ARMS")
        return [error] * len(cases)
    found: dict[int, Decision | Infeasible] = {}
    for places in _together(policy, cases, bounds, conditions):
        alike = [cases[place] for place in places]
        found |= zip(places, _decided(policy, alike, slo, bounds, conditions), strict=True)
    return [found[place] for place in range(len(cases))]


def _together(
    policy: Policy, cases: Sequence[Case], bounds: Bounds, conditions: Conditions
) -> Iterator[list[int]]:
    """The places of queries that only predictions tell apart, then each of the others."""
    if conditions.budget_left_usd is None and policy.planning(bounds) is None:
        usual = [_usual(policy.table, case) for case in cases]
    else:
        usual = [False] * len(cases)
    if any(usual):
        yield [place for place, is_usual in enumerate(usual) if is_usual]
    yield from ([place] for place, is_usual in enumerate(usual) if not is_usual)


def _usual(table: ArmTable, case: Case) -> bool:
    query, novelty = case.query, case.predicted.novelty
    needed = max(query.needs_context_tokens, case.input_tokens)
    return not query.needs and needed <= table.shortest_context and not is_novel(novelty)


def _decided(
    policy: Policy, cases: Sequence[Case], slo: Slo, bounds: Bounds, conditions: Conditions
) -> list[Decision | Infeasible]:
    """The decisions of queries that stand together."""
    try:
        together = Together.of(
            [
                stand(policy.table, case.predicted, slo, conditions, case.input_tokens)
                for case in cases
            ]
        )
        aim = policy.aim(slo, bounds, conditions, together.each[0].novelty)
        choices = _chosen(policy, cases, together, aim, slo=slo, bounds=bounds, at=conditions)
    except Infeasible as error:
        return [error] * len(cases)
    usual_usd = conditions.mean_cost_usd
    how = partial(exploring, slo=slo, value_usd=aim.value_usd, mean_cost_usd=usual_usd)
    made = {
        place: _explored(choice, how(choice, standing), cases[place].decision_id)
        for place, (standing, choice) in enumerate(zip(together.each, choices, strict=True))
        if isinstance(choice, Choice)
    }
    waits = worth_waiting(policy, together, made, Aim.of(slo, aim), willing=bounds.may_continue)
    decide_at = partial(_decision, policy, slo=slo, conditions=conditions)
    return [
        choice
        if isinstance(choice, Infeasible)
        else decide_at(cases[place], standing, made[place], should_continue=waits[place])
        for place, (standing, choice) in enumerate(zip(together.each, choices, strict=True))
    ]


def _chosen(
    policy: Policy,
    cases: Sequence[Case],
    together: Together,
    aim: Worth,
    *,
    slo: Slo,
    bounds: Bounds,
    at: Conditions,
) -> list[Choice | Infeasible]:
    """The choices before exploration; guarded, where the slo asks for that."""
    query = replace(cases[0].query, input_tokens=cases[0].input_tokens)
    choose = partial(first, policy, query=query, slo=slo, bounds=bounds, conditions=at)
    choices = choose(together, aim=aim)
    if not slo.guarded:
        return choices
    plain = policy.aim(slo, bounds, at)
    return guarded(choices, together, _views(policy, cases), partial(choose, aim=plain), plain)


def _views(policy: Policy, cases: Sequence[Case]) -> Sequence[tuple[Predicted, ...]]:
    """What the policy makes of the parts of each query, where nobody has asked it before."""
    known = [case.predicted.views for case in cases]
    asked = [case.query.text for case, views in zip(cases, known, strict=True) if views is None]
    found = iter(viewed(policy, asked))
    return [next(found) if views is None else views for views in known]


def _decision(
    policy: Policy,
    case: Case,
    standing: Standing,
    choice: Choice,
    *,
    should_continue: bool,
    slo: Slo,
    conditions: Conditions,
) -> Decision:
    predictions = standing.predictions
    return Decision(
        decision_id=case.decision_id,
        occurred_at=case.now,
        arms=policy.arms,
        predictions=predictions,
        choice=choice,
        difficulty=policy.difficulty(predictions.accuracy, predictions.cost_usd),
        input_tokens=case.input_tokens,
        slo=slo,
        policy_version=policy.version,
        policy_source=policy.source,
        should_continue=should_continue,
        conditions=conditions,
        novelty=standing.novelty,
        gco2e=float(emitted_gco2e(policy.table, predictions.energy_wh)[choice.index]),
    )


def _explored(choice: Choice, how: Exploring, decision_id: UUID) -> Choice:
    return explore(choice, how.rate, uniform(decision_id), how.odds) if how.rate else choice


def chances(policy: Policy, decision: Decision, slo: Slo, bounds: Bounds) -> Floats:
    """With what probability each arm is picked (a,) where the slo explores.

    `decision` is the same without exploration.
    """
    conditions = decision.conditions
    standing = restand(policy.table, decision)
    aim = policy.aim(slo, bounds, conditions, decision.novelty)
    how = exploring(decision.choice, standing, slo, aim.value_usd, conditions.mean_cost_usd)
    return probabilities(decision.choice, how.rate, how.odds)


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


def uniform(decision_id: UUID) -> float:
    """A number in [0, 1) that is uniform over decision ids and fixed for each."""
    digest = hashlib.blake2b(decision_id.bytes, digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)
