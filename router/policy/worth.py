"""What a decision is after: what a correct answer is worth to it, or the arm that is safe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from router.conditions import MonitorState, Promise
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
    goes by, the most on the curve.
    """

    rank: Rank
    why: str
    value_usd: float | None = None
    met: bool = True


def worth(
    slo: Slo,
    tradeoff: Tradeoff | None,
    promise: Promise | None = None,
    mean_accuracy: Mapping[str, float] | None = None,
) -> Worth:
    """What a decision under this slo is after.

    A per-query floor wants the cheapest arm above it, and so does an average floor without
    a trade-off curve. An average floor is met at the value that its certificate allows, or,
    where there is none, at the value that the curve gives for the floor. Where the
    certificate allows no value, or the outcomes have broken the floor, the safe arm is
    wanted. Without floor and value: as accurate as the best constant arm on average.
    `mean_accuracy` are the arms' means by key, which a relative floor refers to.
    """
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
        return _promised(slo, tradeoff, promise)
    return _predicted(slo, tradeoff, mean_accuracy or {})


def _without_curve(slo: Slo) -> Worth:
    if slo.min_accuracy is not None:
        return Worth(rank=Rank.CHEAPEST, why="cheapest arm at or above the floor")
    if slo.has_floor:
        return Worth(rank=Rank.SAFE, met=False, why="nothing is learnt to hold the floor against")
    return Worth(rank=Rank.NEAR_BEST, why="cheapest arm near the best prior")


def _promised(slo: Slo, tradeoff: Tradeoff, promise: Promise) -> Worth:
    most = float(tradeoff.value_usd[-1])
    if promise.monitor is MonitorState.BROKEN:
        why = f"outcomes say that {_floor(slo)} is broken; the safe arm"
        return Worth(rank=Rank.SAFE, value_usd=most, met=False, why=why)
    if promise.value_usd is None:
        why = f"{_floor(slo)} is not certified; the safe arm"
        return Worth(rank=Rank.SAFE, value_usd=most, met=False, why=why)
    return Worth(rank=Rank.VALUE, value_usd=promise.value_usd, why=f"certified {_floor(slo)}")


def _predicted(slo: Slo, tradeoff: Tradeoff, mean_accuracy: Mapping[str, float]) -> Worth:
    floor = slo.min_accuracy
    if floor is None:
        known = mean_accuracy.get(slo.reference_arm)
        if known is None:
            most = float(tradeoff.value_usd[-1])
            why = f"no outcomes of {slo.reference_arm!r:.120}, the floor's reference; the safe arm"
            return Worth(rank=Rank.SAFE, value_usd=most, met=False, why=why)
        floor = (slo.min_relative_accuracy or 0.0) * known
    value, met = tradeoff.value_for(floor)
    why = f"mean accuracy of at least {floor:.4g}"
    if not met:
        why = f"min_accuracy {floor:.4g} is beyond reach ({float(tradeoff.accuracy.max()):.3f})"
    return Worth(rank=Rank.VALUE, value_usd=value, met=met, why=why)


def _floor(slo: Slo) -> str:
    if slo.min_accuracy is not None:
        return f"mean accuracy of at least {slo.min_accuracy:g}"
    return f"mean accuracy of at least {slo.min_relative_accuracy:g} of {slo.reference_arm}'s"
