"""How good a policy is on queries that it has not seen, against the arms themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from router.policy.tradeoff import Tradeoff
from router.types import Floats, Mask
from training.benchmark import prediction, scale
from training.benchmark.envelope import Envelope
from training.benchmark.gap import gap_closed
from training.evaluation.overlap import effective_n
from training.learning.calibration import calibration_error
from training.learning.energy import EnergyRates, mean_used, token_table
from training.learning.loglinear import at_rows
from training.log.dataset import Dataset, Indices, Rows

Figures = Mapping[str, Any]


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
    found = prediction.prediction_figures(accuracy, rows.score, rows.weight)
    return {
        "rows": found.rows,
        "ece": found.ece,
        "ece_uncalibrated": calibration_error(uncalibrated, rows.score, rows.weight),
        "brier": found.brier,
        "auc": found.auc,
    }


def routing_figures(
    dataset: Dataset,
    queries: Mask,
    predicted: Predicted,
    tradeoff: Tradeoff,
    best_arm: int,
    *,
    rates: EnergyRates,
) -> Figures:
    """What the policy would have reached on the queries of the mask (q,).

    Where most queries have a score and a cost of every arm, or where there are no
    propensities, the outcomes of such queries tell; else the propensities do; else nothing
    can be said. Energy is None where the log counts no tokens or the catalog has no figure.
    """
    score, cost = dataset.table("score"), dataset.table("cost_usd")
    full = queries & ~np.isnan(score).any(axis=1) & ~np.isnan(cost).any(axis=1)
    bandit = bool((~np.isnan(dataset.rows.propensity)).any())
    if len(dataset.arms) > 1 and full.sum() > (queries.sum() / 2 if bandit else 0):
        part, value = predicted.take(full), _value(tradeoff)
        used = _used(token_table(dataset)[full], part.choose(value), best_arm, rates)
        return {
            "best_constant": dataset.arms[best_arm].key,
            **_known(part, score[full], cost[full], tradeoff, best_arm),
            **used,
        }
    return _weighted(dataset, queries, predicted, _value(tradeoff), rates)


def _value(tradeoff: Tradeoff) -> float:
    """The value of a correct answer at which it is as accurate as the best constant."""
    return tradeoff.value_for(tradeoff.best_constant_accuracy)[0]


def _used(tokens: Floats, chosen: Indices, best_arm: int, rates: EnergyRates) -> Figures:
    """Energy and emissions a decision, on the queries (n,) whose every arm has its tokens."""
    counted = ~np.isnan(tokens).any(axis=1)
    tokens, chosen = tokens[counted], chosen[counted]
    own = mean_used(rates, tokens[np.arange(len(tokens)), chosen], chosen)
    best = mean_used(rates, tokens[:, best_arm], np.full(len(tokens), best_arm))
    return {**own, **{f"best_constant_{name}": value for name, value in best.items()}}


def _known(
    predicted: Predicted,
    score: Floats,
    cost: Floats,
    tradeoff: Tradeoff,
    best_arm: int,
) -> Figures:
    """Figures from outcomes of every arm, `score` and `cost` of shape (n, a)."""
    chosen = outcome(predicted.choose(_value(tradeoff)), score, cost)
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
    """The least cost that buys the best constant's accuracy on the curve, over its cost."""
    cost = float(Envelope.of(curve).cost_of(best[1:] - 1e-12)[0])
    return cost / float(best[0]) if np.isfinite(cost) and best[0] > 0 else None


def _gap_closed(curve: Floats, score: Floats, cost: Floats, best_arm: int) -> float | None:
    """The share of the gap between mixtures of constant arms and the oracle that is closed."""
    constants = np.column_stack((cost.mean(axis=0), score.mean(axis=0)))
    low, high = float(constants[:, 0].min()), float(constants[best_arm, 0])
    oracle = Predicted(accuracy=score, cost_usd=cost)
    ideal = [outcome(oracle.choose(value), score, cost) for value in scale.values(high)]
    return gap_closed(curve, constants, np.array(ideal), scale.budgets(low, high))


def _weighted(
    dataset: Dataset, queries: Mask, predicted: Predicted, value_usd: float, rates: EnergyRates
) -> Figures:
    """Self-normalised inverse propensity scoring (SNIPS) of the policy on a bandit log."""
    rows = dataset.rows
    logged = queries[rows.query] & dataset.scored & ~np.isnan(rows.propensity)
    rows = rows.take(logged)
    same = predicted.choose(value_usd)[rows.query] == rows.arm
    if not same.any():
        return {"how": "not known: the log has neither every arm nor propensities", "queries": 0}
    weight = same * rows.score_weight / rows.propensity
    costed = ~np.isnan(rows.cost_usd) & same
    cost = np.average(rows.cost_usd[costed], weights=weight[costed]) if costed.any() else None
    return {
        "how": "self-normalised inverse propensity scoring",
        "queries": len(np.unique(rows.query)),
        "effective_rows": float(effective_n(weight)),
        "logged_accuracy": float(rows.score.mean()),
        "logged_cost_usd": None
        if np.isnan(rows.cost_usd).all()
        else float(np.nanmean(rows.cost_usd)),
        "accuracy": float(np.average(rows.score, weights=weight)),
        "cost_usd": None if cost is None else float(cost),
        **mean_used(
            rates, (rows.input_tokens + rows.output_tokens)[same], rows.arm[same], weight[same]
        ),
    }
