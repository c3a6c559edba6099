"""The first attempt: the arm that it takes, and whether another may add anything to it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from router.conditions import PLAIN, Conditions
from router.errors import Infeasible
from router.policy.choice import choose_many
from router.policy.continuation import Aim
from router.policy.planning import Ahead, Continuation, planned
from router.policy.policy import Policy
from router.policy.standing import Together, rows
from router.policy.worth import Worth
from router.slo import Slo
from router.types import Bounds, Choice, Predictions, Query


def first(
    policy: Policy,
    together: Together,
    query: Query,
    slo: Slo,
    bounds: Bounds,
    *,
    aim: Worth,
    conditions: Conditions = PLAIN,
    ahead: Ahead | None = None,
) -> list[Choice | Infeasible]:
    """Chooses the first arm, before exploration; planned, when the caller may continue.

    Queries stand together as `choose_many` says, and need what `query` does. `aim` is the
    policy's for this slo and them, and so is `ahead`, where it was worked out for many queries
    together.
    """
    utility, continuation = None, policy.planning(bounds)
    if continuation is not None:
        standing = together.each[0]
        known_ahead = partial(_ahead, continuation, standing.predictions, ahead)
        utility = planned(known_ahead, standing, slo, bounds)
    checks = tuple(policy.table.checks(query, slo, bounds, conditions))
    return choose_many(
        together,
        policy.table.left(checks),
        slo,
        bounds,
        aim,
        checks=checks,
        safe=policy.table.place(slo.safe_arm) if slo.safe_arm else None,
        fallen=policy.table.of_models(aim.fallen) if aim.fallen else None,
        utility=utility,
    )


def _ahead(continuation: Continuation, predictions: Predictions, known: Ahead | None) -> Ahead:
    return known or continuation.ahead(predictions.accuracy[None])


def worth_waiting(
    policy: Policy, together: Together, made: Mapping[int, Choice], aim: Aim, *, willing: bool
) -> Mapping[int, bool]:
    """Whether a second attempt after each chosen arm is expected to add anything.

    The choices stand by the place of their query, and so do the answers. A willing caller is
    told so wherever what the attempt may show could make it pay.
    """
    continuation = policy.informing
    if continuation is None or not made:
        return dict.fromkeys(made, False)
    if aim.floor is not None:
        informs = continuation.evidence.informs
        return {place: informs(choice.index) for place, choice in made.items()}
    those = together.take(list(made))
    arms = np.array([choice.index for choice in made.values()])
    feasible = rows([choice.feasible for choice in made.values()])
    cost_usd = np.where(feasible, those.weighed_usd, np.inf)
    cost_usd[np.arange(len(arms)), arms] = np.inf
    pays = continuation.may_pay if willing else continuation.pays
    found: list[bool] = pays(arms, those.accuracy, cost_usd, aim.value_usd).tolist()
    return dict(zip(made, found, strict=True))
