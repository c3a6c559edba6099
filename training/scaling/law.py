"""The scaling-law report: what more inference compute buys, per model and strategy.

Errors follow error = scale x compute^-exponent, the form of the cold-start priors
(`router.policy.priors`); published exponents are read of accuracy too, accuracy ~
compute^growth. Where four computes or more are known, error = left + scale x
compute^-exponent says where accuracy saturates, at 1 - left. All intervals are 95 %, from
queries drawn anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from router.errors import InvalidInput
from router.policy.arms import compute
from router.types import Arm, Floats
from training.benchmark.bootstrap import Interval, interval
from training.benchmark.envelope import Envelope
from training.learning.threads import one_thread
from training.scaling.fit import Fitted, growth, power_law, saturating_law
from training.scaling.groups import LEAST_QUERIES, Ladder, Means, Table, ladders, resampled
from training.scaling.values import FITTED, Law, Rung, ScalingLaws, Step

RESAMPLES = 400
_LEAST_COMPUTES = 3
_LEAST_TO_SATURATE = 4
_WIDEST_SATURATION = 0.25


@one_thread()
def scaling_laws(
    table: Table,
    *,
    rng: np.random.Generator,
    traffic: Mapping[str, float] | None = None,
    resamples: int = RESAMPLES,
) -> ScalingLaws:
    """Fits the laws of all ladders and weighs each step between adjacent arms.

    `traffic` holds the share of decisions by the arm's key. Raises InvalidInput where no
    query has an outcome.
    """
    if np.isnan(table.score).all():
        raise InvalidInput("no outcome has a score; report outcomes with scores first")
    rows = ladders(table.arms)
    [every] = resampled(table, [range(len(table.arms))], 0, rng)
    hull = _frontier(every)
    within = [pair for each in rows for pair in pairwise(each.places)]
    across = [pair for pair in pairwise(hull) if pair not in within]
    groups = [*(each.places for each in rows), *within, *across]
    means = resampled(table, groups, resamples, rng)
    laws = [_law(table.arms, *each) for each in zip(rows, means[: len(rows)], strict=True)]
    pairs = zip(groups[len(rows) :], means[len(rows) :], strict=True)
    on_hull = set(pairwise(hull))
    steps = [
        _step(table.arms, pair, found, traffic, frontier=pair in on_hull)
        for pair, found in pairs
        if found.queries and not np.isnan(found.score).any() and not np.isnan(found.cost_usd).any()
    ]
    return ScalingLaws(
        laws=tuple(each for each in laws if each is not None),
        steps=tuple(sorted(steps, key=lambda each: (not each.buys, -each.per_usd.low))),
    )


def _frontier(every: Means) -> list[int]:
    """Places on the upper concave envelope of accuracy over cost, cheapest first."""
    points = np.column_stack((every.cost_usd[0], every.score[0]))
    known = ~np.isnan(points).any(axis=1)
    if not known.any():
        return []
    corners = Envelope.of(points[known]).corners
    return [int(np.flatnonzero((points == corner).all(axis=1))[0]) for corner in corners]


def _law(arms: Sequence[Arm], ladder: Ladder, means: Means) -> Law | None:
    """The law of a ladder; None where an arm of it has no outcome in some resample."""
    if np.isnan(means.score).any():
        return None
    spent = np.array(ladder.compute)
    gained = means.score[:, -1] - means.score[:, 0]
    gain, efficiency = _sure(gained), _sure(gained / (spent[-1] - spent[0]))
    told = _told(ladder, means, gain)
    relative, errors = spent / spent[0], 1.0 - means.score
    fitted, found = power_law(relative, errors), told == FITTED
    saturation_told, bent = "", None
    if found:
        saturation_told, bent = _saturation(relative, errors, ladder)
    return Law(
        model=ladder.model,
        strategy=ladder.strategy,
        params=ladder.params,
        queries=means.queries,
        paired=means.paired,
        rungs=_rungs(arms, ladder, means),
        gain=gain,
        efficiency=efficiency,
        told=told,
        exponent=_sure(fitted.exponent) if found else None,
        growth=_sure(growth(relative, means.score)) if found else None,
        saturation_told=saturation_told,
        saturation=None if bent is None else _sure(1.0 - bent.left),
        curve=_curve(fitted if bent is None else bent, spent) if found else (),
    )


def _told(ladder: Ladder, means: Means, gain: Interval) -> str:
    """Whether an exponent can be told, and why not."""
    if means.queries < LEAST_QUERIES:
        return f"not identifiable: {means.queries} queries, {LEAST_QUERIES} are needed"
    if gain.high < 0.0:
        return "accuracy falls with compute"
    if gain.low <= 0.0:
        return "not identifiable: accuracy is flat in compute"
    if len(ladder.places) < _LEAST_COMPUTES:
        return "not identifiable: two points fit any law"
    return FITTED


def _saturation(relative: Floats, errors: Floats, ladder: Ladder) -> tuple[str, Fitted | None]:
    """Whether the accuracy that no compute exceeds can be told, and the law that says it."""
    if len(relative) < _LEAST_TO_SATURATE:
        return f"not identifiable: {len(relative)} computes, 4 are needed", None
    bent = saturating_law(relative, errors)
    found = _sure(1.0 - bent.left)
    if found.high >= 1.0 - 1e-6:
        return f"none seen up to {ladder.compute[-1]:g}x", None
    if found.high - found.low > _WIDEST_SATURATION:
        return f"not identifiable: between {found.low:.2f} and {found.high:.2f}", None
    return FITTED, bent


def _rungs(arms: Sequence[Arm], ladder: Ladder, means: Means) -> tuple[Rung, ...]:
    cost = means.cost_usd[0]
    return tuple(
        Rung(
            arm=arms[place].key,
            compute=ladder.compute[at],
            accuracy=_sure(means.score[:, at]),
            cost_usd=None if np.isnan(cost[at]) else float(cost[at]),
        )
        for at, place in enumerate(ladder.places)
    )


def _curve(fitted: Fitted, spent: Floats) -> tuple[tuple[float, float], ...]:
    at = np.geomspace(spent[0], spent[-1], 25)
    accuracy = 1.0 - fitted.at(at / spent[0])[0]
    return tuple(zip(at.tolist(), accuracy.tolist(), strict=True))


def _step(
    arms: Sequence[Arm],
    pair: Sequence[int],
    means: Means,
    traffic: Mapping[str, float] | None,
    *,
    frontier: bool,
) -> Step:
    weaker, stronger = (arms[place] for place in pair)
    gain = means.score[:, 1] - means.score[:, 0]
    added = means.cost_usd[:, 1] - means.cost_usd[:, 0]
    spent = compute(stronger) - compute(weaker)
    same = weaker.model == stronger.model and spent > 0.0
    return Step(
        weaker=weaker.key,
        stronger=stronger.key,
        frontier=frontier,
        gain=_sure(gain),
        added_usd=float(added[0]),
        per_usd=_sure(_per(gain, added)),
        per_compute=_sure(gain / spent) if same else None,
        traffic=None if traffic is None else traffic.get(weaker.key, 0.0),
    )


def _per(gain: Floats, added: Floats) -> Floats:
    """Gain per dollar; without bounds where it costs nothing more."""
    free = np.where(gain > 0.0, np.inf, np.where(gain < 0.0, -np.inf, 0.0))
    return np.asarray(np.divide(gain, added, out=free, where=added > 0.0))


def _sure(statistic: Floats) -> Interval:
    found = interval(statistic)
    if found is None:
        raise InvalidInput("an arm has too few outcomes to resample; give it more queries")
    return found
