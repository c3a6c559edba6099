"""Continuation: after an attempt, keep its answer or try another arm.

The evidence model tells what to believe of every answer given the attempts so far. Another
arm is tried when it pays: when value x the expected gain in the best belief in hand exceeds
its cost, or when the answer in hand is below a per-query floor and another is better. Each
attempt is planned anew from what was really seen, one attempt ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from router.policy.evidence import NODES, Beliefs, EvidenceModel, Indices, belief, probit
from router.policy.limits import Limits
from router.policy.standing import Standing
from router.policy.worth import Rank, Worth
from router.slo import Slo
from router.types import Bounds, Evidence, Floats, Mask, Predictions

MAX_ATTEMPTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """What planning is for: a value of a correct answer, or a floor on each answer's belief."""

    value_usd: float
    floor: float | None = None

    @classmethod
    def of(cls, slo: Slo, aim: Worth) -> Aim:
        """What planning is for, where the decision is after this."""
        if aim.rank is Rank.CHEAPEST:
            return cls(value_usd=0.0, floor=slo.min_accuracy)
        return cls(value_usd=aim.value_usd or 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Next:
    """What follows for n queries, all arrays (n,).

    `arm` is the next one, -1 to keep; `best` the place among the attempts whose answer is
    most likely correct, and `accuracy` the belief in it.
    """

    arm: Indices
    best: Indices
    accuracy: Floats


def following(beliefs: Beliefs, tried: Indices, cost_usd: Floats, left: Mask, aim: Aim) -> Next:
    """Decides after the attempts with arms `tried` (n, k), oldest first.

    `cost_usd` (n, a) is expected of an attempt; `left` (n, a) are the arms that may follow.
    An arm follows when it pays: at a value, when its plan is worth more than keeping; at a
    floor, when the answer in hand is below it and another arm is believed to be better.
    """
    accuracy = beliefs.accuracy
    held = np.take_along_axis(accuracy, tried, axis=1)
    in_hand = held.max(axis=1, keepdims=True)
    if aim.floor is None:
        after = beliefs.ahead(tried, NODES).mean(axis=2)
        gain = aim.value_usd * (after - in_hand) - cost_usd
    else:
        gain = _to_the_floor(accuracy, cost_usd, in_hand, aim.floor)
    rows, most = np.arange(len(tried)), tried.shape[1] >= MAX_ATTEMPTS
    gain[rows[:, None], tried] = -np.inf
    gain = np.where(left & ~np.bool_(most), gain, -np.inf)
    arm = gain.argmax(axis=1)
    arm = np.where(gain[rows, arm] > 0.0, arm, -1)
    return Next(arm=arm, best=held.argmax(axis=1), accuracy=in_hand[:, 0])


def _to_the_floor(accuracy: Floats, cost_usd: Floats, in_hand: Floats, floor: float) -> Floats:
    """Ranks arms below a floor: the cheapest that meets it, else the most accurate better one.

    `in_hand` is (n, 1), all else (n, a); what does not help has -inf.
    """
    rank = np.where(accuracy >= floor, 2.0 + 1.0 / (1.0 + cost_usd), 1.0 + accuracy)
    helps = (in_hand < floor) & (accuracy > in_hand)
    return np.where(helps, rank, -np.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class Walked:
    """The walks of n queries.

    `arms` (n, MAX_ATTEMPTS) were attempted, -1 where none was; `kept` (n,) is the arm whose
    answer is kept, `accuracy` (n,) the belief in it.
    """

    arms: Indices
    kept: Indices
    accuracy: Floats


Shown = Callable[[Indices, Indices], Floats]
"""The surprises that attempts on some queries with some arms show, NaN where none."""

Left = Callable[[Indices, Indices], Mask]
"""The arms (n, a) that may follow on some queries after the attempts with some arms (n, k)."""


def walk(
    evidence: EvidenceModel,
    predicted: tuple[Floats, Floats],
    first: Indices,
    aim: Aim,
    *,
    shown: Shown,
    left: Left,
) -> Walked:
    """Walks n queries together from their first arms until each answer is kept.

    `predicted` are accuracy and cost, both (n, a). `shown` is asked once per attempt and
    for nothing else.
    """
    mu, cost_usd = probit(predicted[0]), predicted[1]
    arms = np.full((len(mu), MAX_ATTEMPTS), -1, np.intp)
    kept, accuracy = first.copy(), np.zeros(len(mu))
    live, arm, beliefs = np.arange(len(mu)), first, Beliefs.of(evidence, mu)
    for attempt in range(MAX_ATTEMPTS):
        arms[live, attempt] = arm
        beliefs, tried = beliefs.after(arm, shown(live, arm)), arms[live, : attempt + 1]
        step = following(beliefs, tried, cost_usd[live], left(live, tried), aim)
        kept[live], accuracy[live] = tried[np.arange(len(live)), step.best], step.accuracy
        on = step.arm >= 0
        live, arm, beliefs = live[on], step.arm[on], beliefs.take(on)
        if not len(live):
            break
    return Walked(arms=arms, kept=kept, accuracy=accuracy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """An attempt that ended: the arm's index and what it showed."""

    index: int
    evidence: Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What to do next: the next arm's index, or None to keep the answer of `best`.

    `best` counts attempts from 0; `accuracy` is the belief in that answer; `predictions`
    are those moved by the evidence.
    """

    next_index: int | None
    best: int
    accuracy: float
    predictions: Predictions
    reason: str


def plan(
    standing: Standing,
    eligible: Mask,
    tried: Sequence[Tried],
    slo: Slo,
    bounds: Bounds,
    *,
    evidence: EvidenceModel,
    aim: Aim,
) -> Step:
    """Decides after the attempts so far, oldest first; at least one, at most MAX_ATTEMPTS.

    Cost and latency that were spent count against the slo's bounds; an attempt that does
    not tell its cost spent what it was expected to.
    """
    predictions = standing.predictions
    beliefs = Beliefs.of(evidence, probit(predictions.accuracy[None]))
    for each in tried:
        beliefs = beliefs.after(np.array([each.index]), _surprise(evidence, predictions, each))
    left = eligible & affordable(predictions, tried, slo, bounds)
    if standing.affordable is not None:
        left &= standing.affordable
    step = following(
        beliefs,
        np.array([[each.index for each in tried]]),
        standing.weighed_usd[None],
        left[None],
        aim,
    )
    arm, best = int(step.arm[0]), int(step.best[0])
    return Step(
        next_index=None if arm < 0 else arm,
        best=best,
        accuracy=float(step.accuracy[0]),
        predictions=_moved(predictions, beliefs),
        reason=_reason(arm, len(tried), aim),
    )


def _surprise(evidence: EvidenceModel, predictions: Predictions, attempt: Tried) -> Floats:
    arm, confidence = np.array([attempt.index]), attempt.evidence.confidence
    shown = np.array([np.nan if confidence is None else confidence])
    return evidence.surprise(arm, probit(predictions.accuracy[arm]), shown)


def _moved(predictions: Predictions, beliefs: Beliefs) -> Predictions:
    """The predictions with the accuracies, and their intervals, that the evidence leaves."""
    shift = beliefs.mean[0] - probit(predictions.accuracy)
    low, accuracy, high = (
        belief(probit(each) + shift, beliefs.explained[0])
        for each in (predictions.accuracy_low, predictions.accuracy, predictions.accuracy_high)
    )
    return replace(predictions, accuracy=accuracy, accuracy_low=low, accuracy_high=high)


def _reason(arm: int, attempts: int, aim: Aim) -> str:
    if arm >= 0:
        return "below the floor" if aim.floor else "another arm adds more than it costs"
    if attempts >= MAX_ATTEMPTS:
        return f"{MAX_ATTEMPTS} attempts are the most"
    if aim.floor:
        return "the answer in hand meets the floor, or no arm that is left is better"
    return "no arm that is left adds more than it costs"


def affordable(predictions: Predictions, tried: Sequence[Tried], slo: Slo, bounds: Bounds) -> Mask:
    """The arms (a,) whose cost, latency and energy, with what was spent, stay within the bounds."""
    limits = Limits.of(slo, bounds, per_query=False)
    left = np.ones(len(predictions.cost_usd), bool)
    if limits.cost_usd is not None:
        spent = (each.evidence.cost_usd for each in tried)
        left &= _sum(tried, spent, predictions.cost_usd) <= limits.cost_usd
    if limits.latency_s is not None:
        spent = (each.evidence.latency_s for each in tried)
        expected = predictions.latency_s(limits.latency_quantile)
        left &= _sum(tried, spent, expected) <= limits.latency_s
    if limits.energy_wh is not None:
        unknown = (None for _ in tried)
        left &= _sum(tried, unknown, predictions.energy_wh) <= limits.energy_wh
    return left


def _sum(tried: Sequence[Tried], spent: Iterable[float | None], expected: Floats) -> Floats:
    """What each arm would bring the sum to, (a,); NaN where nobody knows."""
    known = zip(tried, spent, strict=True)
    return expected + sum(
        float(expected[each.index]) if value is None else value for each, value in known
    )
