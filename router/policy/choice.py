"""The choice: which of the arms that a query leaves meet the slo, and the best of those."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from router.conditions import Limit, Reason
from router.errors import Infeasible
from router.policy.limits import Limits
from router.policy.standing import Standing
from router.policy.worth import Rank, Worth
from router.slo import OnInfeasible, Slo
from router.types import Bounds, Choice, Floats, Mask, SloStatus

_NEAR_BEST = 0.01

Utility = Callable[[float, Mask], Floats]
"""What each arm is worth (a,), in dollars, at a value of a correct answer among feasible arms."""

Checks = Sequence[tuple[Limit, Mask]]
"""The arms that each limit leaves by itself."""


def choose(
    standing: Standing,
    eligible: Mask,
    slo: Slo,
    bounds: Bounds,
    aim: Worth,
    *,
    checks: Checks = (),
    safe: int | None = None,
    utility: Utility | None = None,
) -> Choice:
    """The best arm that is predicted to meet the slo, before exploration.

    `aim` says what arms are ranked by; `utility` takes the place of value x accuracy - cost
    where more attempts may follow. `safe` is the place of the slo's safe arm, if the catalog
    has it. `checks` are what made `eligible`, for the reasons. When no arm meets the bounds,
    what the slo's `on_infeasible` says. Raises Infeasible when that is reject.
    """
    if standing.affordable is not None:
        eligible = _covered(eligible, standing.affordable)
        checks = (*checks, (Limit.BUDGET, standing.affordable))
    limits = Limits.of(slo, bounds, per_query=aim.rank is Rank.CHEAPEST)
    within = [
        (limit, bound, excess <= 0) for limit, bound, excess in limits.parts(standing.predictions)
    ]
    feasible = eligible
    for _, _, mask in within:
        feasible = feasible & mask
    if not feasible.any():
        return _infeasible(standing, eligible, limits, slo)
    single = _single(standing, aim)
    if utility is not None and aim.rank is Rank.VALUE and aim.value_usd is not None:
        ranked = utility(aim.value_usd, feasible)
    else:
        ranked = _ranked(single, standing.predictions.accuracy, feasible, aim, safe)
    index = _best(ranked, feasible)
    if not aim.met and aim.rank is not Rank.SAFE and slo.on_infeasible is OnInfeasible.REJECT:
        raise Infeasible(f"{aim.why}; lower min_accuracy or set on_infeasible to best_effort")
    below = standing.paced and aim.rank is Rank.VALUE and slo.has_floor
    every: list[tuple[Limit, float | None, Mask]]
    every = [(limit, None, mask) for limit, mask in checks]
    every += within
    return Choice(
        index=index,
        feasible=feasible,
        propensity=1.0,
        explored=False,
        slo_status=_status(slo, bounds, met=aim.met and not below),
        reason=f"{aim.why}, less what keeps the budget" if below else aim.why,
        reasons=(*_aimed(aim, below=below), *_reasons(every, single, index)),
    )


def _covered(eligible: Mask, affordable: Mask) -> Mask:
    left = eligible & affordable
    if not left.any():
        raise Infeasible(
            "what is left of the budget covers no arm that may be run; raise it, allow a cheaper "
            "arm, or wait for the next period",
            reason="BUDGET_EXHAUSTED",
        )
    return left


def _single(standing: Standing, aim: Worth) -> Floats:
    """What arms are ranked by where one attempt is all, shape (a,)."""
    if aim.rank is Rank.SAFE:
        return standing.predictions.accuracy
    if aim.value_usd is None:
        return -standing.weighed_usd
    return aim.value_usd * standing.predictions.accuracy - standing.weighed_usd


def _ranked(rank: Floats, accuracy: Floats, feasible: Mask, aim: Worth, safe: int | None) -> Floats:
    """What arms are ranked by where one attempt is all, and the safe arm or the prior count."""
    if aim.rank is Rank.SAFE:
        return rank if safe is None else np.where(np.arange(len(rank)) == safe, 2.0, rank)
    if aim.rank is Rank.NEAR_BEST:
        return np.where(accuracy >= accuracy[feasible].max() - _NEAR_BEST, rank, -np.inf)
    return rank


def _aimed(aim: Worth, *, below: bool) -> Iterator[Reason]:
    """The reason of a safe arm, and that of a budget that is paced below a floor's trade-off."""
    if below:
        note = "the budget is paced; the mean may fall below the floor"
        yield Reason(limit=Limit.BUDGET, binding=True, note=note)
    if aim.limit is not None:
        yield Reason(limit=aim.limit, binding=True, note=aim.why)


def _reasons(
    every: Sequence[tuple[Limit, float | None, Mask]], rank: Floats, index: int
) -> Iterator[Reason]:
    """One reason for each limit that leaves an arm out."""
    leaving = [(limit, bound, ~mask) for limit, bound, mask in every if not mask.all()]
    if not leaving:
        return
    alone = np.add.reduce([out for _, _, out in leaving]) == 1
    better = alone & (rank > rank[index])
    for limit, bound, out in leaving:
        binding = bool((out & better).any())
        yield Reason(limit=limit, left_out=int(out.sum()), bound=bound, binding=binding)


def _best(rank: Floats, mask: Mask) -> int:
    """The place of the greatest rank within the mask, which is not empty."""
    place = int(np.where(mask & ~np.isnan(rank), rank, -np.inf).argmax())
    return place if mask[place] else int(mask.argmax())


def _infeasible(standing: Standing, eligible: Mask, limits: Limits, slo: Slo) -> Choice:
    if slo.on_infeasible is OnInfeasible.REJECT:
        raise Infeasible(f"no arm meets {limits}; relax it or set on_infeasible to best_effort")
    cheapest = slo.on_infeasible is OnInfeasible.CHEAPEST
    nearest = -limits.excess(standing.predictions)
    index = _best(-standing.weighed_usd if cheapest else nearest, eligible)
    taken = "the cheapest" if cheapest else "the nearest"
    return Choice(
        index=index,
        feasible=np.zeros_like(eligible),
        propensity=1.0,
        explored=False,
        slo_status=SloStatus.BEST_EFFORT,
        reason=f"no arm meets {limits}; took {taken}",
        reasons=tuple(
            Reason(limit=limit, left_out=int((excess > 0).sum()), bound=bound, binding=True)
            for limit, bound, excess in limits.parts(standing.predictions)
            if (excess > 0).any()
        ),
    )


def _status(slo: Slo, bounds: Bounds, *, met: bool) -> SloStatus:
    if not met:
        return SloStatus.BEST_EFFORT
    asked = (slo.max_cost_usd, slo.max_latency_s, slo.max_energy_wh, slo.accuracy_value_usd)
    bounded = slo.has_floor or any(bound is not None for bound in asked)
    bounded = bounded or bounds.max_cost_usd is not None or bounds.max_latency_s is not None
    return SloStatus.MET if bounded else SloStatus.NO_SLO
