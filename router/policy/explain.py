"""Explains a decision: what moved its arm's predicted accuracy, and what moved the choice.

An explanation is worked out after the decision, by the policy that made it, from the same
context and predictions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from router.errors import NotFound
from router.explanation import (
    AccuracyTerms,
    Contribution,
    ExplainedArm,
    Explanation,
    LeftOut,
    Neighbour,
)
from router.policy.features import ROW_FEATURES
from router.policy.limits import Limits
from router.policy.planning import planned
from router.policy.policy import Policy, Predicted
from router.policy.predictor import LearnedPredictor, Makeup
from router.policy.signals import SIGNALS, SignalArrays, log_odds
from router.policy.standing import restand
from router.policy.worth import Rank
from router.types import Bounds, Decision, Floats, Query

MOST_NEIGHBOURS = 5
MOST_FEATURES = 8
LEAST_ROWS = 5.0
"""A landmark of fewer may stand for one query, of which no other tenant's caller may learn."""

_NOTHING_LEARNT = (
    "the static policy decided: nothing is learnt, so that nothing of the query but its length "
    "moved the choice"
)
_EXPLORED = "the arm was drawn at random to explore, whatever its utility"


def explain(
    policy: Policy,
    known: Predicted,
    decision: Decision,
    query: Query,
    bounds: Bounds,
    *,
    beside: str | None = None,
    least_rows: float = 0.0,
) -> Explanation:
    """Explains the decision that the policy made for a query, of which it had `known` the rest.

    The picked arm is held against the arm whose key is `beside`, or else against the
    feasible one that ranks next. Neighbours with fewer rows of an arm than `least_rows`
    are left out. Raises NotFound when the policy has no arm `beside`.
    """
    worth = _Ranked.of(policy, decision, bounds)
    places = [decision.choice.index, *_beside(policy, decision, worth, beside)]
    terms = _terms(policy, known, places, least_rows)
    return Explanation(
        note=_note(decision, terms),
        value_usd=worth.value_usd,
        planned=worth.planned,
        arms=tuple(
            _arm(decision, worth, place, each) for place, each in zip(places, terms, strict=True)
        ),
        left_out=tuple(_left_out(policy, decision, query, bounds, worth)),
    )


def _arm(
    decision: Decision, worth: _Ranked, place: int, terms: AccuracyTerms | None
) -> ExplainedArm:
    return ExplainedArm(
        arm=decision.arms[place].key,
        feasible=bool(decision.choice.feasible[place]),
        accuracy=float(decision.predictions.accuracy[place]),
        cost_usd=float(decision.predictions.cost_usd[place]),
        utility_usd=_finite(worth.utility_usd[place]),
        terms=terms,
    )


def _note(decision: Decision, terms: Sequence[AccuracyTerms | None]) -> str:
    notes = (_NOTHING_LEARNT if terms[0] is None else "", _EXPLORED * decision.choice.explored)
    return "; ".join(note for note in notes if note)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ranked:
    """What the arms are ranked by, `utility_usd` (a,), and whether a floor holds per query."""

    value_usd: float | None
    planned: bool
    per_query: bool
    utility_usd: Floats

    @classmethod
    def of(cls, policy: Policy, decision: Decision, bounds: Bounds) -> _Ranked:
        """As the pipeline ranks them."""
        slo, conditions, continuation = decision.slo, decision.conditions, policy.planning(bounds)
        standing = restand(policy.table, decision)
        aim = policy.aim(slo, bounds, conditions, decision.novelty)
        utility = -standing.weighed_usd
        if aim.value_usd is not None and continuation is not None:
            plans = continuation.ahead(standing.predictions.accuracy[None])
            rank = planned(lambda: plans, standing, slo, bounds)
            utility = rank(aim.value_usd, decision.choice.feasible)
        elif aim.value_usd is not None:
            utility = aim.value_usd * standing.predictions.accuracy + utility
        return cls(
            value_usd=aim.value_usd,
            planned=continuation is not None and aim.value_usd is not None,
            per_query=aim.rank is Rank.CHEAPEST,
            utility_usd=utility,
        )


def _beside(policy: Policy, decision: Decision, worth: _Ranked, key: str | None) -> list[int]:
    """The place of the arm to hold the picked one against; none where no other is feasible."""
    keys, picked = policy.table.keys, decision.choice.index
    if key is not None and key not in keys:
        raise NotFound(
            f"the policy has no arm {key!r:.120}; use a key such as {keys[picked]!r}",
            reason="ARM_NOT_FOUND",
        )
    if key is not None and key != keys[picked]:
        return [keys.index(key)]
    others = decision.choice.feasible.copy()
    others[picked] = False
    ranked = np.where(others, worth.utility_usd, -np.inf)
    return [int(ranked.argmax())] if others.any() else []


def _terms(
    policy: Policy, known: Predicted, places: Sequence[int], least_rows: float
) -> list[AccuracyTerms | None]:
    learnt = policy.predictor
    if not isinstance(learnt, LearnedPredictor):
        return [None] * len(places)
    makeup = learnt.makeup(known.context, places)
    return [_of_arm(learnt, makeup, row, place, least_rows) for row, place in enumerate(places)]


def _of_arm(
    learnt: LearnedPredictor, makeup: Makeup, row: int, place: int, least_rows: float
) -> AccuracyTerms:
    """The terms of the arm at a place, which stands in a row of the makeup."""
    trees = _contributions(ROW_FEATURES, makeup.columns[row], makeup.trees[row, :-1])
    trees.sort(key=lambda each: -abs(each.log_odds))
    mean, signals = _signals(learnt.signal_arrays, makeup.signals[row], place)
    slope, offset = float(learnt.calibration.slope), float(learnt.calibration.offset[place])
    raw = float(makeup.log_odds[row])
    return AccuracyTerms(
        mean=mean,
        signals=tuple(signals),
        trees_expected=float(makeup.trees[row, -1]),
        trees=tuple(each for each in trees[:MOST_FEATURES] if each.log_odds),
        trees_other=math.fsum(each.log_odds for each in trees[MOST_FEATURES:]),
        log_odds=raw,
        slope=slope,
        offset=offset,
        probability=float(1.0 / (1.0 + np.exp(-(slope * raw + offset)))),
        neighbours=_neighbours(learnt.signal_arrays, makeup.nearness, place, least_rows),
    )


def _signals(arrays: SignalArrays, signals: Floats, place: int) -> tuple[float, list[Contribution]]:
    """The log-odds that the arm's and all arms' means alone stack up to, and what is beyond."""
    own = len(SIGNALS) // 2
    means = np.concatenate((np.full(own, arrays.base[place]), np.full(own, arrays.mean)))
    usual = log_odds(means)
    mean = float(arrays.intercepts[place] + arrays.weights @ usual)
    return mean, _contributions(SIGNALS, signals, arrays.weights * (signals - usual))


def _contributions(names: Sequence[str], values: Floats, added: Floats) -> list[Contribution]:
    return [
        Contribution(name=name, value=_finite(value), log_odds=each)
        for name, value, each in zip(names, values.tolist(), added.tolist(), strict=True)
    ]


def _neighbours(
    arrays: SignalArrays, near: Floats, place: int, least_rows: float
) -> tuple[Neighbour, ...]:
    """The landmarks whose rows of the arm weigh most here: the kernel, squared, times the rows."""
    rows = arrays.counts[:, place]
    weight = np.where(rows >= least_rows, near * near * rows, 0.0)
    most = np.argsort(-weight, kind="stable")[:MOST_NEIGHBOURS]
    most = most[weight[most] > 0]
    counts = arrays.counts[most]
    scores = arrays.sums[most] + counts * arrays.base
    own, everyone = scores[:, place] / counts[:, place], scores.sum(axis=1) / counts.sum(axis=1)
    figures = (near[most], rows[most], own, counts.sum(axis=1), everyone)
    return tuple(
        Neighbour(
            landmark=landmark,
            similarity=similarity,
            rows=count,
            accuracy=accuracy,
            all_rows=all_count,
            all_accuracy=all_accuracy,
        )
        for landmark, similarity, count, accuracy, all_count, all_accuracy in zip(
            most.tolist(), *(column.tolist() for column in figures), strict=True
        )
    )


def _left_out(
    policy: Policy, decision: Decision, query: Query, bounds: Bounds, worth: _Ranked
) -> Iterator[LeftOut]:
    """The limits that leave arms out, each by itself."""
    query = replace(query, input_tokens=decision.input_tokens)
    slo, conditions = decision.slo, decision.conditions
    limits = Limits.of(slo, bounds, per_query=worth.per_query)
    masks = [(limit, mask) for limit, mask in policy.table.checks(query, slo, bounds, conditions)]
    masks += [(limit, excess <= 0) for limit, _, excess in limits.parts(decision.predictions)]
    keys, bound = policy.table.keys, dict(limits.named)
    for limit, mask in masks:
        if not mask.all():
            said = f"{limit} {bound[limit]:g}" if limit in bound else str(limit)
            yield LeftOut(limit=said, arms=tuple(keys[each] for each in np.flatnonzero(~mask)))


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
