"""What attempts spend, learnt per arm: tokens, cost on top of their price, and latency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from scipy.optimize import nnls

from router.policy.priors import LATENCY_SPREAD
from router.policy.spending import (
    COST,
    LATENCY,
    LEAST_COST_USD,
    OUTPUT,
    SPREAD,
    SpendingArrays,
    SpendingForecast,
    SpendingPredictor,
    prior_arrays,
)
from router.slo import LATENCY_QUANTILES
from router.types import Arm, Catalog, Floats, Model
from training.learning.loglinear import at_rows, poisson_weights, ridge_weights
from training.log.dataset import Rows

LEAST_LATENCY_S = 1e-3
_LEAST_BASE_USD = 1e-12
_EXPLAINED_WITHIN = 0.1
_STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
_JUDGED = LATENCY_QUANTILES.index(0.95)


class SpendingModel:
    """Learns what each arm spends; an arm whose figure was never logged keeps its prior.

    After `fit`, `arrays_` are what serving reads but for the latency quantiles, which
    `finish` makes of out-of-fold predictions. `costed_` and `timed_` (a,) tell which arms
    had a cost and a latency in the log.
    """

    def __init__(self, *, arms: Sequence[Arm], models: Sequence[Model]) -> None:
        self.arms = arms
        self.models = models

    def fit(self, contexts: Floats, rows: Rows, counted_tokens: Floats) -> Self:
        """Learns from the rows; contexts (q, f) and counted tokens (q,) are per query."""
        rows = rows.spent()
        by_name = {model.name: model for model in self.models}
        models = [by_name[arm.model] for arm in self.arms]
        self.arrays_ = prior_arrays(self.arms, models, contexts.shape[1])
        self.costed_, self.timed_ = np.zeros((2, len(self.arms)), bool)
        for place, model in enumerate(models):
            mine = rows.take(rows.arm == place)
            seen, counted = contexts[mine.query], counted_tokens[mine.query]
            arm = _Arm(self.arrays_, place)
            arm.learn_tokens(seen, mine, counted)
            self.costed_[place] = arm.learn_cost(seen, mine, counted, model)
            self.timed_[place] = arm.learn_latency(seen, mine)
        return self

    def predict(self, contexts: Floats, counted_tokens: Floats) -> SpendingForecast:
        """The forecast of contexts (n, f), as serving works it out; arrays (n, a)."""
        catalog = Catalog(models=tuple(self.models), arms=tuple(self.arms))
        predictor = SpendingPredictor(arrays=self.arrays_, trained_arms=self.arms, catalog=catalog)
        return predictor.forecast(contexts, counted_tokens)

    def finished(self, latency: LatencyShape) -> SpendingArrays:
        """The arrays that serving reads, with what out-of-fold predictions showed of latency."""
        weights, bounds = self.arrays_.weights.copy(), self.arrays_.bounds.copy()
        weights[:, SPREAD] *= latency.strength
        bounds[:, SPREAD] = np.where(np.isinf(bounds[:, SPREAD]), 0.0, bounds[:, SPREAD])
        bounds[:, SPREAD] *= latency.strength
        return replace(
            self.arrays_, weights=weights, bounds=bounds, latency_quantiles=latency.quantiles
        )


class _Arm:
    """Writes what one arm's rows show into its place of the arrays."""

    def __init__(self, arrays: SpendingArrays, place: int) -> None:
        self.arrays = arrays
        self.place = place

    def learn_tokens(self, contexts: Floats, rows: Rows, counted: Floats) -> None:
        """Learns what the arm bills of the counted input, and what it writes."""
        known = ~np.isnan(rows.input_tokens)
        if known.any():
            billed, weight = rows.input_tokens[known], rows.weight[known]
            self.arrays.billed_input[self.place] = _billed(counted[known], billed, weight)
        known = ~np.isnan(rows.output_tokens)
        if known.any():
            written, weight = rows.output_tokens[known], rows.weight[known]
            self._put(OUTPUT, contexts[known], poisson_weights(contexts[known], written, weight))

    def learn_cost(self, contexts: Floats, rows: Rows, counted: Floats, model: Model) -> bool:
        """Learns the cost on top of the tokens' price, or the cost alone where that is 0.

        Where its tokens do not explain what an attempt cost, output is priced at its mean,
        and how the cost varies is left to the context.
        """
        known = ~np.isnan(rows.cost_usd)
        if not known.any():
            return False
        seen, cost_usd, weight = contexts[known], rows.cost_usd[known], rows.weight[known]
        if not _explained(rows, model):
            written = np.exp(self._figure(OUTPUT, seen))
            self.arrays.billed_output[self.place] = np.average(written, weights=weight), 0.0
        base_usd = self._priced(seen, counted[known], model)
        priced = bool(base_usd.max() > _LEAST_BASE_USD and cost_usd.max() > 0.0)
        self.arrays.priced[self.place] = priced
        if priced:
            base_usd = np.maximum(base_usd, _LEAST_BASE_USD)
            weight = weight * base_usd / base_usd.mean()
            self._put(COST, seen, poisson_weights(seen, cost_usd / base_usd, weight))
        else:
            cost_usd = np.maximum(cost_usd, LEAST_COST_USD)
            self._put(COST, seen, poisson_weights(seen, cost_usd, weight))
        return True

    def learn_latency(self, contexts: Floats, rows: Rows) -> bool:
        """Learns the median and, from what is left of it, the spread."""
        known = ~np.isnan(rows.latency_s)
        if not known.any():
            self.arrays.weights[self.place, LATENCY] = np.nan
            return False
        seen, weight = contexts[known], rows.weight[known]
        logs = log_latency(rows.latency_s[known])
        median = ridge_weights(seen, logs, weight)
        self._put(LATENCY, seen, median)
        away = np.abs(logs - _linear(median, seen))
        mean = float(np.average(away, weights=weight))
        if mean > 0.0:
            self._put(SPREAD, seen, poisson_weights(seen, away / mean, weight))
        return True

    def _priced(self, contexts: Floats, counted: Floats, model: Model) -> Floats:
        """The price in dollars of the tokens expected of each context, shape (n,)."""
        constant, ratio = self.arrays.billed_input[self.place]
        input_usd = (constant + ratio * counted) * model.input_usd_per_mtok
        constant, ratio = self.arrays.billed_output[self.place]
        written = np.exp(self._figure(OUTPUT, contexts))
        output_usd = (constant + ratio * written) * model.output_usd_per_mtok
        return np.asarray((input_usd + output_usd) / 1e6)

    def _figure(self, figure: int, contexts: Floats) -> Floats:
        return _linear(self.arrays.weights[self.place, figure], contexts)

    def _put(self, figure: int, contexts: Floats, weights: Floats) -> None:
        found = _linear(weights, contexts)
        self.arrays.weights[self.place, figure] = weights
        self.arrays.bounds[self.place, figure] = found.min(), found.max()


def _linear(weights: Floats, contexts: Floats) -> Floats:
    return np.asarray(weights[0] + contexts @ weights[1:])


def _billed(counted: Floats, billed: Floats, weight: Floats) -> Floats:
    """The constant and the ratio (2,), both >= 0, that bring counted to billed tokens (n,)."""
    scale = max(float(counted.max()), 1.0)
    root = np.sqrt(weight)
    columns = np.column_stack((root, root * counted / scale))
    solution, _ = nnls(columns, root * billed)
    return np.asarray(solution / (1.0, scale))


def _explained(rows: Rows, model: Model) -> bool:
    """Whether attempts cost the price of their tokens, within a tenth and but for a factor."""
    input_price, output_price = model.input_usd_per_mtok, model.output_usd_per_mtok
    price = rows.input_tokens * input_price + rows.output_tokens * output_price
    both = ~np.isnan(price) & ~np.isnan(rows.cost_usd)
    price = price[both] * rows.weight[both]
    cost = rows.cost_usd[both] * rows.weight[both]
    if not len(cost) or price.sum() <= 0.0:
        return True
    away = np.abs(cost - price * cost.sum() / price.sum())
    return bool(away.sum() <= _EXPLAINED_WITHIN * cost.sum())


def log_latency(latency_s: Floats) -> Floats:
    """Logarithms of latencies, of which none counts as less than a millisecond."""
    return np.asarray(np.log(np.maximum(latency_s, LEAST_LATENCY_S)))


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyShape:
    """How latency lies around its median: conformal `quantiles` (a, 3) of the residuals.

    Residuals are in units of the predicted spread to the power of `strength`.
    """

    strength: float
    quantiles: Floats


def finish(forecast: SpendingForecast, rows: Rows) -> LatencyShape:
    """Makes latency quantiles valid, from an out-of-fold forecast (q, a) of the rows' queries.

    Of some strengths, it takes that of the least pinball loss of the 0.95 quantile: a
    predicted spread sharpens the quantiles where it is right, and is dropped where not.
    """
    shapes = [_shape(forecast, rows, strength) for strength in _STRENGTHS]
    losses = [_loss(forecast, rows, shape) for shape in shapes]
    return shapes[int(np.argmin(losses))]


def _shape(forecast: SpendingForecast, rows: Rows, strength: float) -> LatencyShape:
    errors = _errors(forecast, rows)
    scaled = errors / at_rows(forecast.latency_spread, rows) ** strength
    arms = forecast.log_latency.shape[1]
    quantiles = np.tile(LATENCY_SPREAD, (arms, 1))
    for arm in range(arms):
        mine = (rows.arm == arm) & ~np.isnan(scaled)
        if mine.any():
            quantiles[arm] = conformal(scaled[mine], rows.weight[mine])
    return LatencyShape(strength=strength, quantiles=quantiles)


def _loss(forecast: SpendingForecast, rows: Rows, shape: LatencyShape) -> float:
    """The mean pinball loss of log latency's 0.95 quantile; 0 without any latency."""
    errors = _errors(forecast, rows)
    spread = at_rows(forecast.latency_spread, rows) ** shape.strength
    over = errors - spread * shape.quantiles[rows.arm, _JUDGED]
    level = LATENCY_QUANTILES[_JUDGED]
    losses = np.maximum(level * over, (level - 1.0) * over)
    known = ~np.isnan(losses)
    return float(np.average(losses[known], weights=rows.weight[known])) if known.any() else 0.0


def _errors(forecast: SpendingForecast, rows: Rows) -> Floats:
    return log_latency(rows.latency_s) - at_rows(forecast.log_latency, rows)


def conformal(errors: Floats, weight: Floats) -> Floats:
    """The quantiles of LATENCY_QUANTILES with the finite-sample rank, rising; shape (3,).

    The q quantile of n equal residuals is the one of rank ceil((n + 1) q), so that a new one
    is at or below it with probability q at least (split conformal prediction; Tibshirani
    and others 2019 with weights, the new one's being their mean). Where n is too small
    for that rank, it is the greatest or the prior's, whichever is greater.
    """
    order = np.argsort(errors, kind="stable")
    ordered, total = errors[order], np.cumsum(weight[order])
    found = []
    for quantile, least in zip(LATENCY_QUANTILES, LATENCY_SPREAD, strict=True):
        needed = quantile * (total[-1] + weight.mean())
        rank = int(np.searchsorted(total, needed * (1.0 - 1e-12)))
        inside = rank < len(ordered)
        found.append(ordered[rank] if inside else max(float(ordered[-1]), float(least)))
    return np.maximum.accumulate(np.array(found))
