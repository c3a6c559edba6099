"""What each arm is expected to spend on a query: dollars, tokens, seconds and energy.

Input tokens are counted before an arm is run, so they are priced and not predicted. All
else is log-linear in the context; the figures of all arms come out of one matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from router.policy.bundled import Bundled
from router.policy.latency import Shape, quantiles_of, shape
from router.policy.priors import LATENCY_SPREAD, calls, prior
from router.types import Arm, Catalog, Floats, Model

LEAST_COST_USD = 1e-9
"""No arm is expected to cost less, so that free arms have a place on a logarithmic scale."""

OUTPUT, COST, LATENCY, SPREAD = range(4)
"""The figures of `SpendingArrays.weights`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendingArrays(Bundled):
    """What was learnt per arm; a bundle holds each array as `spending_` and its name.

    With a arms and f context columns: `weights` (a, 4, 1 + f), a bias first, give the
    natural logarithm of the expected output tokens; of the expected cost, over the price
    of its expected tokens where `priced` (a,) is 1 and in dollars where it is 0; of the
    median latency in seconds, NaN where it was never measured; and of how widely latency
    spreads around it. `bounds` (a, 4, 2) are the least and the greatest of these in
    training. Of the counted input tokens and of the expected output tokens, what is billed
    is a constant and a ratio: `billed_input` and `billed_output` (a, 2).
    `latency_quantiles` (a, 3) are those of log latency around the median's logarithm,
    over the spread.
    """

    PREFIX: ClassVar[str] = "spending_"

    weights: Floats
    bounds: Floats
    billed_input: Floats
    billed_output: Floats
    priced: Floats
    latency_quantiles: Floats

    def bind(
        self, trained: Sequence[Arm], arms: Sequence[Arm], models: Sequence[Model]
    ) -> SpendingArrays:
        """The arrays of these arms, priors where one was not trained on; a model per arm.

        The latency of an arm that has none is that of a pass of its model, where one has,
        in the shape of its strategy.
        """
        bound = prior_arrays(arms, models, self.weights.shape[-1] - 1)
        index = {arm.key: row for row, arm in enumerate(trained)}
        places = [place for place, arm in enumerate(arms) if arm.key in index]
        rows = [index[arms[place].key] for place in places]
        for name in self.__slots__:
            getattr(bound, name)[places] = getattr(self, name)[rows]
        self._time_unmeasured(bound, trained, arms)
        return bound

    def _time_unmeasured(
        self, bound: SpendingArrays, trained: Sequence[Arm], arms: Sequence[Arm]
    ) -> None:
        """Times arms whose latency was never measured by a pass of their model that was."""
        known = np.flatnonzero(~np.isnan(self.weights[:, LATENCY, 0])).tolist()
        measured = {trained[row].key for row in known}
        passes = [row for row in known if shape(trained[row]).one_pass]
        passes.sort(key=lambda row: -shape(trained[row]).length)
        shortest = {trained[row].model: row for row in passes}
        for place, arm in enumerate(arms):
            row = shortest.get(arm.model)
            if row is not None and arm.key not in measured:
                self._time_like(bound, place, row, shape(arm).over(shape(trained[row])))

    def _time_like(self, bound: SpendingArrays, place: int, row: int, shaped: Shape) -> None:
        """Times the arm at `place` as a strategy of that shape over passes like those of `row`."""
        one_pass = self.latency_quantiles[row]
        found = quantiles_of(shaped, one_pass)
        longer = found[0] - one_pass[0]
        for figure in (LATENCY, SPREAD):
            bound.weights[place, figure] = self.weights[row, figure]
            bound.bounds[place, figure] = self.bounds[row, figure]
        bound.weights[place, LATENCY, 0] += longer
        bound.bounds[place, LATENCY] += longer
        bound.latency_quantiles[place] = found - longer


def prior_arrays(arms: Sequence[Arm], models: Sequence[Model], columns: int) -> SpendingArrays:
    """The arrays of arms of which nothing was learnt, for contexts (f,) of so many columns.

    They price the counted input tokens, once per call, and the published output tokens.
    """
    both = list(zip(arms, models, strict=True))
    expected = [prior(arm, model) for arm, model in both]
    weights = np.zeros((len(both), 4, 1 + columns))
    weights[:, OUTPUT, 0] = [math.log(each.output_tokens) for each in expected]
    weights[:, LATENCY, 0] = [math.log(each.latency_s) for each in expected]
    sent = np.array([calls(arm) for arm in arms])
    return SpendingArrays(
        weights=weights,
        bounds=np.tile(np.array([-np.inf, np.inf]), (len(both), 4, 1)),
        billed_input=np.column_stack((np.zeros(len(both)), sent)),
        billed_output=np.tile(np.array([0.0, 1.0]), (len(both), 1)),
        priced=np.ones(len(both)),
        latency_quantiles=np.tile(LATENCY_SPREAD, (len(both), 1)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendingForecast:
    """What is expected of n queries and a arms, every array (n, a).

    `log_latency` is the logarithm of the median in seconds, `latency_spread` what the
    residuals of log latency are measured in.
    """

    cost_usd: Floats
    output_tokens: Floats
    log_latency: Floats
    latency_spread: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """What n queries are expected to spend on a arms: (n, a), and `latency_s` (n, 3, a).

    The quantiles are those of LATENCY_QUANTILES, NaN where latency was never measured.
    """

    cost_usd: Floats
    output_tokens: Floats
    latency_s: Floats
    energy_wh: Floats


class SpendingPredictor:
    """Predicts the spending of a catalog's arms. Pure and thread-safe.

    Cost is the price of the billed input and the expected output tokens, as the catalog
    has the prices, times what the log showed on top of it.
    """

    def __init__(
        self, *, arrays: SpendingArrays, trained_arms: Sequence[Arm], catalog: Catalog
    ) -> None:
        models = [catalog.model(arm.model) for arm in catalog.arms]
        bound = arrays.bind(trained_arms, catalog.arms, models)
        by_figure = bound.weights.swapaxes(0, 1).reshape(4 * len(models), -1)
        self._bias, self._slopes = by_figure[:, 0], np.ascontiguousarray(by_figure[:, 1:])
        self._least, self._most = bound.bounds.T.reshape(2, -1)
        self._quantiles = np.ascontiguousarray(bound.latency_quantiles.T)
        input_usd = bound.priced * [model.input_usd_per_mtok / 1e6 for model in models]
        output_usd = bound.priced * [model.output_usd_per_mtok / 1e6 for model in models]
        energy_wh = np.array([model.energy_wh_per_ktok / 1_000 for model in models])
        self._per_output = np.stack((output_usd * bound.billed_output[:, 1], energy_wh))
        self._constant, self._per_input = bound.billed_input.T[:, None, :] * np.stack(
            (input_usd, energy_wh)
        )
        self._constant[0] += output_usd * bound.billed_output[:, 0] + 1.0 - bound.priced

    def forecast(self, contexts: Floats, input_tokens: Floats) -> SpendingForecast:
        """The means and medians of contexts (n, f) whose input tokens (n,) were counted.

        Queries that are predicted together come out the same bit for bit.
        """
        logs, figures = self._figures(contexts)
        return SpendingForecast(
            cost_usd=self._spent(figures, input_tokens)[:, 0],
            output_tokens=figures[:, OUTPUT],
            log_latency=logs[:, LATENCY],
            latency_spread=figures[:, SPREAD],
        )

    def predict(self, contexts: Floats, input_tokens: Floats) -> Spending:
        """As `forecast`, with latency as quantiles, and energy."""
        logs, figures = self._figures(contexts)
        spent = self._spent(figures, input_tokens)
        away = figures[:, SPREAD:] * self._quantiles
        return Spending(
            cost_usd=spent[:, 0],
            output_tokens=figures[:, OUTPUT],
            latency_s=np.exp(logs[:, LATENCY : LATENCY + 1] + away),
            energy_wh=spent[:, 1],
        )

    def _figures(self, contexts: Floats) -> tuple[Floats, Floats]:
        """The figures' logarithms and the figures, both (n, 4, a)."""
        logs = np.matvec(self._slopes, contexts)
        logs += self._bias
        np.maximum(logs, self._least, out=logs)
        np.minimum(logs, self._most, out=logs)
        logs = logs.reshape(len(contexts), 4, -1)
        return logs, np.exp(logs)

    def _spent(self, figures: Floats, input_tokens: Floats) -> Floats:
        """Dollars and energy of each query and arm, shape (n, 2, a)."""
        spent: Floats = figures[:, OUTPUT : OUTPUT + 1] * self._per_output
        spent += self._constant
        spent += input_tokens[:, None, None] * self._per_input
        cost_usd = spent[:, 0]
        cost_usd *= figures[:, COST]
        np.maximum(cost_usd, LEAST_COST_USD, out=cost_usd)
        return spent
