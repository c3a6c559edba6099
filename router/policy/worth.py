"""What a decision is after: what a correct answer is worth to it, or the arm that is safe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto

from router.conditions import Limit, MonitorState, Promise
from router.policy.novelty import is_novel
from router.policy.tradeoff import Tradeoff
from router.slo import AccuracyScope, Slo


class Rank(Enum):
    """What arms are ranked by."""

    VALUE = auto()  # value x accuracy - cost
    CHEAPEST = auto()
    NEAR_BEST = auto()  # the cheapest of those that are near the most accurate
    SAFE = auto()  # the slo's safe arm, else the most accurate


@dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """How arms are ranked, whether that meets the slo's floor, and why.

    `value_usd` is there when the rank is by value; for the safe arm it is what continuation
    goes by, the most on the curve. `limit` is what made the safe arm the one to take, which
    is of none of the `fallen` models where there are others.
    """

    rank: Rank
    why: str
    value_usd: float | None = None
    met: bool = True
    limit: Limit | None = None
    fallen: tuple[str, ...] = ()


def worth(
    slo: Slo,
    tradeoff: Tradeoff | None,
    promise: Promise | None = None,
    mean_accuracy: Mapping[str, float] | None = None,
    novelty: float | None = None,
) -> Worth:
    """What a decision under this slo is after.

    A per-query floor wants the cheapest arm above it, and so does an average floor without
    a trade-off curve. An average floor is met at the value that its certificate allows, or,
    where there is none, at the value that the curve gives for the floor. Where the
    certificate allows no value, or the outcomes have broken the floor, the safe arm is
    wanted; and so it is for a query unlike those that were learnt from, where the slo has a
    floor or names a safe arm. Without floor and value: as accurate as the best constant arm
    on average. `mean_accuracy` are the arms' means by key, which a relative floor refers to.
    """
    overruled = _overruled(slo, tradeoff, promise, novelty)
    if overruled is not None:
        return replace(overruled, fallen=promise.fallen) if promise else overruled
    if slo.accuracy_value_usd is not None:
        why = "best trade-off at the given value"
        return Worth(rank=Rank.VALUE, value_usd=slo.accuracy_value_usd, why=why)
    if tradeoff is None or (slo.has_floor and slo.accuracy_scope is AccuracyScope.PER_QUERY):
        return _without_curve(slo)
    if not slo.has_floor:
        value, _ = tradeoff.value_for(tradeoff.best_constant_accuracy)
        why = "as accurate as the best constant arm, at less cost"
        return Worth(rank=Rank.VALUE, value_usd=value, why=why)
    if promise is not None:
        why = f"certified {_floor(slo)}"
        return Worth(rank=Rank.VALUE, value_usd=promise.value_usd, why=why)
    return _predicted(slo, tradeoff, mean_accuracy or {})


def _without_curve(slo: Slo) -> Worth:
    if slo.min_accuracy is not None:
        return Worth(rank=Rank.CHEAPEST, why="cheapest arm at or above the floor")
    if slo.has_floor:
        return _safe(None, Limit.CERTIFICATE, "nothing is learnt to hold the floor against")
    return Worth(rank=Rank.NEAR_BEST, why="cheapest arm near the best prior")


def _overruled(
    slo: Slo, tradeoff: Tradeoff | None, promise: Promise | None, novelty: float | None
) -> Worth | None:
    """The safe arm, for a novel query, a floor that outcomes have broken, or an uncertified one."""
    if (slo.has_floor or slo.safe_arm) and is_novel(novelty):
        why = f"unlike the queries that were learnt from (novelty {novelty:.4f})"
        return _safe(tradeoff, Limit.NOVELTY, why)
    average = slo.has_floor and slo.accuracy_scope is AccuracyScope.AVERAGE
    if promise is None or not average:
        return None
    if promise.monitor is MonitorState.BROKEN:
        return _safe(tradeoff, Limit.MONITOR, f"outcomes say that {_floor(slo)} is broken")
    if promise.value_usd is None:
        why = f", since {', '.join(promise.fallen)} got worse" if promise.fallen else ""
        return _safe(tradeoff, Limit.CERTIFICATE, f"{_floor(slo)} is not certified{why}")
    return None


def _predicted(slo: Slo, tradeoff: Tradeoff, mean_accuracy: Mapping[str, float]) -> Worth:
    floor = slo.min_accuracy
    if floor is None:
        known = mean_accuracy.get(slo.reference_arm)
        if known is None:
            why = f"no outcomes of {slo.reference_arm!r:.120}, the floor's reference"
            return _safe(tradeoff, Limit.CERTIFICATE, why)
        floor = (slo.min_relative_accuracy or 0.0) * known
    value, met = tradeoff.value_for(floor)
    why = f"mean accuracy of at least {floor:.4g}"
    if not met:
        why = f"min_accuracy {floor:.4g} is beyond reach ({float(tradeoff.accuracy.max()):.3f})"
    return Worth(rank=Rank.VALUE, value_usd=value, met=met, why=why)


def _safe(tradeoff: Tradeoff | None, limit: Limit, why: str) -> Worth:
    most = None if tradeoff is None else float(tradeoff.value_usd[-1])
    why = f"{why}; the safe arm"
    return Worth(rank=Rank.SAFE, value_usd=most, met=False, why=why, limit=limit)


def _floor(slo: Slo) -> str:
    if slo.min_accuracy is not None:
        return f"mean accuracy of at least {slo.min_accuracy:g}"
    return f"mean accuracy of at least {slo.min_relative_accuracy:g} of {slo.reference_arm}'s"
