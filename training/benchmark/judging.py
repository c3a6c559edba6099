"""Judging: from what ways did to figures with paired intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from router.types import Floats, Mask
from training.benchmark.aiq import aiq
from training.benchmark.bootstrap import Interval, Resamples, interval
from training.benchmark.envelope import Envelope
from training.benchmark.pgr import recovered
from training.benchmark.prediction import PredictionFigures, prediction_figures
from training.benchmark.results import AtBudget, CostShare, Point, WayFigures
from training.benchmark.trial import Trial
from training.benchmark.ways import Walked

TARGETS = (0.95, 0.98, 0.99, 1.0, 1.01, 1.02)
REFERENCES = frozenset({"best_constant", "mixture", "oracle"})
_SLACK = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """A way's envelope in each of 1 + n resamples.

    `alone` and `added` (1 + n, b) are at the budgets, without and with the constants;
    `at_best` (1 + n,) is at the best constant's cost, without; `cost_shares` (1 + n, t)
    are the shares of that cost at which the targets are reached, infinite if never.
    """

    alone: Floats
    added: Floats
    at_best: Floats
    cost_shares: Floats


class Judge:
    """Holds what all ways of a trial are measured against, in every resample."""

    def __init__(self, trial: Trial, resamples: Resamples) -> None:
        self.trial = trial
        self.resamples = resamples
        self.budgets_usd = trial.scale.budgets_usd
        costs, scores = resamples.means(trial.cost_usd.T), resamples.means(trial.score.T)
        constants = np.stack((costs, scores), axis=2)
        self.best = constants[:, trial.scale.best_arm]
        self._mixtures = [Envelope.of(each) for each in constants]
        self.mixture = np.stack([each.at(self.budgets_usd) for each in self._mixtures])
        self.constants = constants[0]
        self.most = self.curves(self.points(trial.walked["oracle"])).added

    def points(self, walked: Walked) -> Floats:
        """A way's (cost, accuracy) points in each resample, shape (1 + n, v, 2)."""
        costs = self.resamples.means(walked.cost_usd)
        return np.stack((costs, self.resamples.means(walked.score)), axis=2)

    def curves(self, points: Floats) -> Curves:
        """The envelopes of points (1 + n, v, 2)."""
        rows = [self._curve(place, each) for place, each in enumerate(points)]
        alone, added, at_best, shares = map(np.stack, zip(*rows, strict=True))
        return Curves(alone=alone, added=added, at_best=at_best, cost_shares=shares)

    def _curve(self, place: int, points: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        own, mixture, (cost, accuracy) = (
            Envelope.of(points),
            self._mixtures[place],
            self.best[place],
        )
        added = Envelope.of(np.vstack((own.corners, mixture.corners)))
        reached = own.cost_of(accuracy * np.array(TARGETS) - _SLACK)
        at_best = own.at(np.array([cost]))[0]
        return own.at(self.budgets_usd), added.at(self.budgets_usd), at_best, _over(reached, cost)

    def gap(self, accuracy: Floats) -> Floats:
        """The share of the gap that accuracies (1 + n, b) at the budgets close, (1 + n,)."""
        if not len(self.budgets_usd):
            return np.full(len(accuracy), np.nan)
        base, most = self.mixture.mean(axis=1), self.most.mean(axis=1)
        room = most - base
        gained = accuracy.mean(axis=1) - base
        share = np.divide(gained, room, out=np.full(len(room), np.nan), where=room > 0)
        return np.asarray(share)

    def reached(self, points: Floats) -> Mask:
        """The budgets that the cheapest of a way's points fits in, on the whole sample."""
        return np.asarray(self.budgets_usd >= points[0, :, 0].min() * (1.0 - _SLACK), bool)

    def gaps(self, name: str) -> Floats:
        """Gap closed by a way of the trial in each resample, (1 + n,)."""
        return self.gap(self.curves(self.points(self.trial.walked[name])).added)

    def figures(self, name: str) -> WayFigures:
        """How a way of the trial did."""
        walked, scale = self.trial.walked[name], self.trial.scale
        points = self.points(walked)
        curves, reached = self.curves(points), self.reached(points)
        alone = interval(self.gap(np.where(reached, curves.alone, self.mixture)))
        against = self._against_best(points, curves)
        budgets = self._budgets(curves, reached)
        differences = [each.difference for each in budgets if each.difference is not None]
        worse = sum(each.high < -_SLACK for each in differences)
        cost_usd = self.constants[:, 0]
        return WayFigures(
            name=name,
            verdict="reference" if name in REFERENCES else verdict(alone, against, worse),
            gap_closed=interval(self.gap(curves.added)),
            gap_closed_by_split=(),
            gap_closed_alone=alone,
            against_best_constant=against,
            cost_shares=_shares(curves),
            worse_budgets=worse,
            better_budgets=sum(each.low > _SLACK for each in differences),
            unreached_budgets=len(budgets) - len(differences),
            better_budgets_with_constants=sum(each.with_constants.low > _SLACK for each in budgets),
            aiq=aiq(points[0], float(cost_usd.min()), float(cost_usd.max())),
            pgr=recovered(points[0], self.constants[scale.cheapest_arm], self.best[0]),
            prediction=self._prediction(walked),
            points=_plain(points[0]),
            budgets=budgets,
            fit_s=self.trial.taken_s[name][0],
            walk_s=self.trial.taken_s[name][1],
        )

    def _against_best(self, points: Floats, curves: Curves) -> Interval | None:
        if points[0, :, 0].min() > self.best[0, 0] * (1.0 + _SLACK):
            return None
        return interval(curves.at_best - self.best[:, 1])

    def _budgets(self, curves: Curves, reached: Mask) -> tuple[AtBudget, ...]:
        return tuple(
            AtBudget(
                budget_usd=float(budget),
                mixture=float(self.mixture[0, place]),
                accuracy=_where(reached[place], curves.alone[:, place]),
                difference=_where(reached[place], curves.alone[:, place] - self.mixture[:, place]),
                with_constants=_certain(curves.added[:, place] - self.mixture[:, place]),
            )
            for place, budget in enumerate(self.budgets_usd)
        )

    def _prediction(self, walked: Walked) -> PredictionFigures | None:
        if walked.predicted is None:
            return None
        predicted = walked.predicted.accuracy
        known = ~np.isnan(predicted)
        if not known.any():
            return None
        return prediction_figures(predicted[known], self.trial.score[known])


def verdict(alone: Interval | None, against_best: Interval | None, worse_budgets: int) -> str:
    """What the intervals say in words, worst first.

    A way loses to the best constant when it is significantly less accurate at that arm's
    cost, or dearer at any value; else it stands against the best mixture by its own
    envelope.
    """
    if against_best is None:
        return "dearer than the best constant"
    if against_best.high < -_SLACK:
        return "loses to the best constant"
    if alone is None:
        return "no worse than the best constant"
    said = _against_mixture(alone)
    return f"{said}; budgets where it is worse: {worse_budgets}" if worse_budgets else said


def _against_mixture(alone: Interval) -> str:
    if alone.high < -_SLACK:
        return "loses to the best mixture"
    return "beats the best mixture" if alone.low > _SLACK else "no better than the best mixture"


def _shares(curves: Curves) -> tuple[CostShare, ...]:
    found = [interval(share) for share in curves.cost_shares.T]
    return tuple(
        CostShare(of_accuracy=target, cost=cost)
        for target, cost in zip(TARGETS, found, strict=True)
    )


def _plain(points: Floats) -> tuple[Point, ...]:
    return tuple(Point(cost_usd=float(cost), accuracy=float(score)) for cost, score in points)


def _over(costs_usd: Floats, cost_usd: float) -> Floats:
    return costs_usd / cost_usd if cost_usd > 0 else np.full_like(costs_usd, np.nan)


def _where(reached: bool, statistic: Floats) -> Interval | None:  # noqa: FBT001
    return _certain(statistic) if reached else None


def _certain(statistic: Floats) -> Interval:
    found = interval(statistic)
    if found is None:  # accuracies are never NaN on queries that have every arm
        raise ValueError("an accuracy at a budget is not known")
    return found
