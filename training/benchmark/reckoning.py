"""Reckoning: the results of a trial, put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from router.types import Floats
from training.benchmark.bootstrap import Interval, Resamples, interval
from training.benchmark.energy import energies
from training.benchmark.extras import calibration, latency_coverage
from training.benchmark.judging import Judge
from training.benchmark.results import (
    Ablated,
    CalibrationBin,
    Constant,
    Learnt,
    Point,
    Results,
    Setup,
    WayFigures,
)
from training.benchmark.trial import Limited, Trial, together
from training.benchmark.ways import Way
from training.learning.energy import EnergyRates

CONTINUATION = "continuation"
_ONE, _MORE = "leadline", "leadline_continuation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Without:
    """A way without a part; `whole` names the way that has it."""

    part: str
    whole: str
    way: Way


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """All that run: the ways themselves, those that learn from less, those without a part."""

    ways: Sequence[Way]
    limited: Sequence[Limited] = ()
    without: Sequence[Without] = ()

    @property
    def all(self) -> list[Way]:
        """Every way, in the order in which they run."""
        return [*self.ways, *self.limited, *(each.way for each in self.without)]


def reckon(
    trials: Sequence[Trial],
    field: Field,
    resamples: Resamples,
    setup: Setup,
    importance: Mapping[str, float],
    *,
    rates: EnergyRates | None = None,
) -> Results:
    """Judges every way of the field on the queries of all trials."""
    trial = together(trials)
    judge = Judge(trial, resamples)
    alone = [Judge(each, Resamples.alone(len(each.score))) for each in trials]
    ways = {way.name: _figures(judge, alone, way.name) for way in field.ways}
    scale, arms = trial.scale, trial.arms
    results = Results(
        setup=setup,
        best_constant=arms[scale.best_arm],
        cheapest_constant=arms[scale.cheapest_arm],
        constants=_constants(trial, judge),
        ways=tuple(ways.values()),
        learning_curve=_learning_curve(judge, field.limited, ways, trial.train_queries),
        ablation=_ablation(judge, field.without, ways),
        calibration=(),
        latency_coverage=(),
        importance=importance,
        energy=energies(judge, tuple(ways), rates) if rates else (),
    )
    shown = trial.walked[_ONE].predicted if _ONE in trial.walked else None
    if shown is None:
        return results
    bins: tuple[CalibrationBin, ...] = calibration(trial, shown, resamples)
    return replace(results, calibration=bins, latency_coverage=latency_coverage(trial, shown))


def _figures(judge: Judge, alone: Sequence[Judge], name: str) -> WayFigures:
    """A way's figures on all trials together, with the gap that it closed in each alone."""
    by_split = tuple(float(each.gaps(name)[0]) for each in alone)
    return replace(judge.figures(name), gap_closed_by_split=by_split)


def _constants(trial: Trial, judge: Judge) -> tuple[Constant, ...]:
    scale = trial.scale
    seen = zip(scale.cost_usd, scale.accuracy, strict=True)
    return tuple(
        Constant(arm=arm, test=_point(*test), train=_point(*train))
        for arm, test, train in zip(trial.arms, judge.constants, seen, strict=True)
    )


def _point(cost_usd: float, accuracy: float) -> Point:
    return Point(cost_usd=float(cost_usd), accuracy=float(accuracy))


def _learning_curve(
    judge: Judge, limited: Sequence[Limited], ways: Mapping[str, WayFigures], queries: int
) -> tuple[Learnt, ...]:
    """Every point, and at the end the ways that saw all training queries."""
    if not limited:
        return ()
    points = []
    for each in limited:
        found = judge.figures(each.name)
        points.append(_learnt(each.way.name, each.queries, found))
    names = dict.fromkeys(each.way.name for each in limited)
    return (*points, *(_learnt(name, queries, ways[name]) for name in names))


def _learnt(way: str, queries: int, found: WayFigures) -> Learnt:
    return Learnt(
        way=way,
        queries=queries,
        gap_closed=found.gap_closed,
        gap_closed_alone=found.gap_closed_alone,
    )


def _ablation(
    judge: Judge, without: Sequence[Without], ways: Mapping[str, WayFigures]
) -> tuple[Ablated, ...]:
    """Leadline without continuation is Leadline with one attempt; the others ran for this."""
    found = []
    if _ONE in ways and _MORE in ways:
        found.append(_ablated(CONTINUATION, _MORE, judge.gaps(_ONE), judge.gaps(_MORE)))
    for each in without:
        if each.whole in ways:
            gaps = judge.gaps(each.way.name)
            found.append(_ablated(each.part, each.whole, gaps, judge.gaps(each.whole)))
    return tuple(found)


def _ablated(part: str, way: str, gaps: Floats, whole: Floats) -> Ablated:
    loss: Interval | None = interval(whole - gaps)
    return Ablated(without=part, way=way, gap_closed=interval(gaps), loss=loss)
