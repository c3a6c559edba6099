"""How good a policy is on queries that it has not seen, against the arms themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from router.policy.tradeoff import Tradeoff
from router.types import Floats, Mask
from training.calibration import calibration_error
from training.dataset import Dataset, Indices, Rows
from training.loglinear import at_rows

Figures = Mapping[str, Any]
_BUDGETS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """Calibrated accuracy and mean cost in dollars for every query and arm, both (q, a)."""

    accuracy: Floats
    cost_usd: Floats

    def take(self, queries: Mask) -> Predicted:
        """The predictions of the queries of a mask."""
        return Predicted(accuracy=self.accuracy[queries], cost_usd=self.cost_usd[queries])

    def choose(self, value_usd: float) -> Indices:
        """The arm of the greatest value x accuracy - cost for each query, shape (q,)."""
        return np.asarray((value_usd * self.accuracy - self.cost_usd).argmax(axis=1), np.intp)


def prediction_figures(predicted: Floats, raw: Floats, rows: Rows) -> Figures:
    """Calibration error before and after, Brier score and AUC on scored rows of (q, a)."""
    rows = rows.take(~np.isnan(rows.score))
    if not len(rows):
        return {"rows": 0}
    accuracy = at_rows(predicted, rows)
    uncalibrated = 1.0 / (1.0 + np.exp(-at_rows(raw, rows)))
    right = rows.score >= 0.5
    return {
        "rows": len(rows),
        "ece": calibration_error(accuracy, rows.score, rows.weight),
        "ece_uncalibrated": calibration_error(uncalibrated, rows.score, rows.weight),
        "brier": float(np.average((accuracy - rows.score) ** 2, weights=rows.weight)),
        "auc": float(roc_auc_score(right, accuracy)) if 0 < right.sum() < len(right) else None,
    }


def routing_figures(
    dataset: Dataset, queries: Mask, predicted: Predicted, tradeoff: Tradeoff, best_arm: int
) -> Figures:
    """What the policy would have reached on the queries of the mask (q,).

    With enough queries whose every arm has a score and a cost, the outcomes themselves
    tell; else the propensities do; else nothing can be said.
    """
    score, cost = dataset.table("score"), dataset.table("cost_usd")
    full = queries & ~np.isnan(score).any(axis=1) & ~np.isnan(cost).any(axis=1)
    if full.any() and len(dataset.arms) > 1:
        part = predicted.take(full)
        return {
            "best_constant": dataset.arms[best_arm].key,
            **_known(part, score[full], cost[full], tradeoff, best_arm),
        }
    return _weighted(dataset, queries, predicted, tradeoff)


def _known(
    predicted: Predicted,
    score: Floats,
    cost: Floats,
    tradeoff: Tradeoff,
    best_arm: int,
) -> Figures:
    """Figures from outcomes of every arm, `score` and `cost` of shape (n, a)."""
    value, _ = tradeoff.value_for(tradeoff.best_constant_accuracy)
    chosen = outcome(predicted.choose(value), score, cost)
    curve = np.array([outcome(predicted.choose(each), score, cost) for each in tradeoff.value_usd])
    best = np.array((cost[:, best_arm].mean(), score[:, best_arm].mean()))
    return {
        "how": "full information",
        "queries": len(score),
        "best_constant_accuracy": float(best[1]),
        "best_constant_cost_usd": float(best[0]),
        "accuracy": float(chosen[1]),
        "cost_usd": float(chosen[0]),
        "cost_share_at_best_constant_accuracy": _cost_share(curve, best),
        "gap_closed": _gap_closed(curve, score, cost, best_arm),
        "oracle_accuracy": float(score.max(axis=1).mean()),
    }


def outcome(arms: Indices, score: Floats, cost: Floats) -> tuple[float, float]:
    """Mean cost and mean score of the arms (n,) that were picked; tables are (n, a)."""
    rows = np.arange(len(arms))
    return float(cost[rows, arms].mean()), float(score[rows, arms].mean())


def _cost_share(curve: Floats, best: Floats) -> float | None:
    """The least cost on the curve that reaches the best constant's accuracy, over its cost."""
    reached = curve[curve[:, 1] >= best[1] - 1e-12]
    return float(reached[:, 0].min() / best[0]) if len(reached) and best[0] > 0 else None


def _gap_closed(curve: Floats, score: Floats, cost: Floats, best_arm: int) -> float | None:
    """The share of the gap between mixtures of constant arms and the oracle that is closed.

    Each is the mean, over 60 log-spaced budgets from the cheapest arm's mean cost to the
    most accurate one's, of the upper concave envelope of (mean cost, mean accuracy).
    """
    constants = np.column_stack((cost.mean(axis=0), score.mean(axis=0)))
    low, high = float(constants[:, 0].min()), float(constants[best_arm, 0])
    if not 0.0 < low < high:
        return None
    budgets = np.geomspace(low, high, _BUDGETS)
    values = high * np.logspace(-3, 3.5, _BUDGETS)
    oracle = Predicted(accuracy=score, cost_usd=cost)
    ideal = np.array([outcome(oracle.choose(value), score, cost) for value in values])
    base = _envelope(constants, budgets).mean()
    ours = _envelope(np.vstack((curve, constants)), budgets).mean()
    most = _envelope(np.vstack((ideal, constants)), budgets).mean()
    return float((ours - base) / (most - base)) if most > base else None


def _envelope(points: Floats, budgets: Floats) -> Floats:
    """The upper concave envelope of (cost, accuracy) points (k, 2) at the budgets."""
    hull: list[tuple[float, float]] = []
    for x, y in sorted(map(tuple, points.tolist())):
        if hull and y <= hull[-1][1]:
            continue
        while len(hull) > 1 and _below(hull[-2], hull[-1], (x, y)):
            hull.pop()
        hull.append((x, y))
    costs, accuracies = np.array(hull).T
    return np.asarray(np.interp(budgets, costs, accuracies))


def _below(one: tuple[float, float], two: tuple[float, float], three: tuple[float, float]) -> bool:
    """Whether the middle point is on or below the line between the others."""
    rise = (two[1] - one[1]) * (three[0] - one[0])
    return rise <= (three[1] - one[1]) * (two[0] - one[0])


def _weighted(dataset: Dataset, queries: Mask, predicted: Predicted, tradeoff: Tradeoff) -> Figures:
    """Self-normalised inverse propensity scoring (SNIPS) of the policy on a bandit log."""
    rows = dataset.rows
    logged = queries[rows.query] & dataset.scored & ~np.isnan(rows.propensity)
    rows = rows.take(logged)
    value, _ = tradeoff.value_for(tradeoff.best_constant_accuracy)
    same = predicted.choose(value)[rows.query] == rows.arm
    if not same.any():
        return {"how": "not known: the log has neither every arm nor propensities", "queries": 0}
    weight = same / rows.propensity
    costed = ~np.isnan(rows.cost_usd) & same
    cost = np.average(rows.cost_usd[costed], weights=weight[costed]) if costed.any() else None
    return {
        "how": "self-normalised inverse propensity scoring",
        "queries": len(np.unique(rows.query)),
        "effective_rows": float(weight.sum() ** 2 / (weight**2).sum()),
        "logged_accuracy": float(rows.score.mean()),
        "logged_cost_usd": None
        if np.isnan(rows.cost_usd).all()
        else float(np.nanmean(rows.cost_usd)),
        "accuracy": float(np.average(rows.score, weights=weight)),
        "cost_usd": None if cost is None else float(cost),
    }
