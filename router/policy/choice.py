"""The choice: which of the arms that a query leaves meet the slo, and the best of those."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from router.conditions import Limit, Reason
from router.errors import Infeasible
from router.policy.limits import Limits
from router.policy.standing import Standing, Together, rows
from router.policy.worth import Rank, Worth
from router.slo import OnInfeasible, Slo
from router.types import Bounds, Choice, Floats, Mask, SloStatus

_NEAR_BEST = 0.01

Utility = Callable[[float, Mask], Floats]
"""What each arm is worth (a,), in dollars, at a value of a correct answer among feasible arms."""

Checks = Sequence[tuple[Limit, Mask]]
"""The arms that each limit leaves by itself."""

Left = tuple[Limit, float | None, Mask]
"""A limit, its number, and the arms (a,), or those of n queries (n, a), that it leaves."""


def choose(
    standing: Standing,
    eligible: Mask,
    slo: Slo,
    bounds: Bounds,
    aim: Worth,
    *,
    checks: Checks = (),
    safe: int | None = None,
    fallen: Mask | None = None,
    utility: Utility | None = None,
) -> Choice:
    """The best arm that is predicted to meet the slo, before exploration.

    `aim` says what arms are ranked by; `utility` takes the place of value x accuracy - cost
    where more attempts may follow. `safe` is the place of the slo's safe arm, if the catalog
    has it; where the slo names none, the `fallen` arms (a,) come behind all others. `checks`
    are what made `eligible`, for the reasons. When no arm meets the bounds, what the slo's
    `on_infeasible` says. Raises Infeasible when that is reject.
    """
    [found] = choose_many(
        Together.of([standing]),
        eligible,
        slo,
        bounds,
        aim,
        checks=checks,
        safe=safe,
        fallen=fallen,
        utility=utility,
    )
    if isinstance(found, Infeasible):
        raise found
    return found


def choose_many(
    together: Together,
    eligible: Mask,
    slo: Slo,
    bounds: Bounds,
    aim: Worth,
    *,
    checks: Checks = (),
    safe: int | None = None,
    fallen: Mask | None = None,
    utility: Utility | None = None,
) -> list[Choice | Infeasible]:
    """As `choose`, for one or more queries that have all but their predictions in common.

    Where one of them has no choice, the error stands instead; what none of them has is
    raised. With a budget, or with a `utility`, there is one query.
    """
    standing, accuracy = together.each[0], together.accuracy
    if standing.affordable is not None:
        eligible = _covered(eligible, standing.affordable)
        checks = (*checks, (Limit.BUDGET, standing.affordable))
    limits = Limits.of(slo, bounds, per_query=aim.rank is Rank.CHEAPEST)
    within = list(_within(limits, together.each))
    single = _single(accuracy, together.weighed_usd, aim, fallen)
    feasible = eligible[None].repeat(len(accuracy), axis=0)
    for _, _, mask in within:
        feasible = feasible & mask
    ranked = _ranked(single, accuracy, feasible, aim, safe=safe, utility=utility)
    every = [*((limit, None, mask) for limit, mask in checks), *within]
    verdict = _Verdict.of(slo, bounds, aim, paced=standing.paced)
    return [
        verdict.choice(index, mask, _reasons(every, row, single[row], index) if every else ())
        if mask[index]
        else _infeasible(together.each[row], eligible, limits, slo)
        for row, (mask, index) in enumerate(zip(feasible, _best(ranked, feasible), strict=True))
    ]


def _covered(eligible: Mask, affordable: Mask) -> Mask:
    left = eligible & affordable
    if not left.any():
        raise Infeasible(
            "what is left of the budget covers no arm that may be run; raise it, allow a cheaper "
            "arm, or wait for the next period",
            reason="BUDGET_EXHAUSTED",
        )
    return left


def _within(limits: Limits, standings: Sequence[Standing]) -> Iterator[Left]:
    """The arms of each query (n, a) that each bound leaves by itself."""
    parts = [limits.parts(standing.predictions) for standing in standings]
    for each in zip(*parts, strict=True):
        limit, bound, _ = each[0]
        yield limit, bound, rows([excess for _, _, excess in each]) <= 0


def _single(accuracy: Floats, weighed_usd: Floats, aim: Worth, fallen: Mask | None) -> Floats:
    """What arms are ranked by where one attempt is all, shape (n, a)."""
    if aim.rank is Rank.SAFE:
        return accuracy if fallen is None else accuracy - fallen
    if aim.value_usd is None:
        return -weighed_usd
    return aim.value_usd * accuracy - weighed_usd


def _ranked(
    single: Floats,
    accuracy: Floats,
    feasible: Mask,
    aim: Worth,
    *,
    safe: int | None,
    utility: Utility | None,
) -> Floats:
    """What arms are ranked by, (n, a): what a plan, the safe arm or the prior make of `single`."""
    if aim.rank is Rank.SAFE:
        return single if safe is None else np.where(np.arange(single.shape[1]) == safe, 2.0, single)
    if aim.rank is Rank.NEAR_BEST:
        best = np.where(feasible, accuracy, -np.inf).max(axis=1, keepdims=True)
        return np.where(accuracy >= best - _NEAR_BEST, single, -np.inf)
    planned = aim.rank is Rank.VALUE and aim.value_usd is not None and feasible.any()
    if utility is not None and planned and aim.value_usd is not None:
        return utility(aim.value_usd, feasible[0])[None]
    return single


def _best(rank: Floats, mask: Mask) -> list[int]:
    """The places of the greatest ranks within the masks, both (n, a); any where one is empty."""
    best: list[int] = np.where(mask & ~np.isnan(rank), rank, -np.inf).argmax(axis=1).tolist()
    return [
        place if mask[row, place] else int(mask[row].argmax()) for row, place in enumerate(best)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verdict:
    """What is said of every choice with the same aim; `refused` is why the slo has none."""

    status: SloStatus
    why: str
    reasons: tuple[Reason, ...]
    refused: str

    @classmethod
    def of(cls, slo: Slo, bounds: Bounds, aim: Worth, *, paced: bool) -> _Verdict:
        """A budget that is paced takes a floor's trade-off below it."""
        below = paced and aim.rank is Rank.VALUE and slo.has_floor
        missed = not aim.met and aim.rank is not Rank.SAFE
        rejects = missed and slo.on_infeasible is OnInfeasible.REJECT
        advice = "lower min_accuracy or set on_infeasible to best_effort"
        return cls(
            status=_status(slo, bounds, met=aim.met and not below),
            why=f"{aim.why}, less what keeps the budget" if below else aim.why,
            reasons=tuple(_aimed(aim, below=below)),
            refused=f"{aim.why}; {advice}" if rejects else "",
        )

    def choice(self, index: int, feasible: Mask, reasons: Iterable[Reason]) -> Choice | Infeasible:
        """The choice of an arm out of the feasible ones (a,)."""
        if self.refused:
            return Infeasible(self.refused)
        return Choice(
            index=index,
            feasible=feasible,
            propensity=1.0,
            explored=False,
            slo_status=self.status,
            reason=self.why,
            reasons=(*self.reasons, *reasons),
        )


def _aimed(aim: Worth, *, below: bool) -> Iterator[Reason]:
    """The reason of a safe arm, and that of a budget that is paced below a floor's trade-off."""
    if below:
        note = "the budget is paced; the mean may fall below the floor"
        yield Reason(limit=Limit.BUDGET, binding=True, note=note)
    if aim.limit is not None:
        yield Reason(limit=aim.limit, binding=True, note=aim.why)


def _reasons(every: Sequence[Left], row: int, rank: Floats, index: int) -> Iterator[Reason]:
    """One reason for each limit that leaves an arm of a query's out; the masks (n, a) or (a,)."""
    own = [(limit, bound, ~(mask[row] if mask.ndim > 1 else mask)) for limit, bound, mask in every]
    leaving = [each for each in own if each[2].any()]
    if not leaving:
        return
    alone = np.add.reduce([out for _, _, out in leaving]) == 1
    better = alone & (rank > rank[index])
    for limit, bound, out in leaving:
        binding = bool((out & better).any())
        yield Reason(limit=limit, left_out=int(out.sum()), bound=bound, binding=binding)


def _infeasible(
    standing: Standing, eligible: Mask, limits: Limits, slo: Slo
) -> Choice | Infeasible:
    if slo.on_infeasible is OnInfeasible.REJECT:
        return Infeasible(f"no arm meets {limits}; relax it or set on_infeasible to best_effort")
    cheapest = slo.on_infeasible is OnInfeasible.CHEAPEST
    nearest = -limits.excess(standing.predictions)
    [index] = _best((-standing.weighed_usd if cheapest else nearest)[None], eligible[None])
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
