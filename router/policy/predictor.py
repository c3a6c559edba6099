"""What each arm is expected to bring for a query: accuracy, cost, latency, tokens, energy.

Accuracy comes from one LightGBM model over (query, arm) rows and is calibrated; cost,
output tokens and latency come from one log-linear model per arm on the same context.
All arms are predicted in one call.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from router.policy.arms import ARM_FEATURES, describe
from router.policy.features import Context
from router.policy.priors import LATENCY_SPREAD, prior
from router.types import Arm, Catalog, Floats, Model, Predictions


class Booster(Protocol):
    """The part of lightgbm.Booster that predictions need; thread-safe."""

    def predict(self, data: Floats, *, raw_score: bool = ..., num_threads: int = ...) -> Any:
        """Scores of the rows of `data` (n, f), shape (n,)."""


class Predictor(Protocol):
    """Predicts for a fixed row of arms. Pure and thread-safe: same context, same numbers."""

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The arms, in the order of every prediction."""

    def predict(self, context: Context) -> Predictions:
        """What each arm is expected to bring; arrays of shape (a,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmArrays:
    """What was learnt per arm; the names are those of the bundle's arrays.

    With a arms and f context columns: the weights are (a, 1 + f), a bias first, and give
    a natural logarithm; `cost_smearing` (a,) turns the mean log cost into the mean cost
    (Duan 1983); `latency_quantiles` (a, 3) are the residual quantiles 0.5, 0.95 and 0.99
    of log latency. A row is NaN where the log never had the figure. `mean_accuracy` and
    `mean_cost_usd` (a,) are the training log's.
    """

    mean_accuracy: Floats
    mean_cost_usd: Floats
    cost_weights: Floats
    cost_smearing: Floats
    token_weights: Floats
    latency_weights: Floats
    latency_quantiles: Floats

    def take(self, rows: NDArray[np.intp]) -> ArmArrays:
        """The arrays of the arms at `rows`, in that order."""
        return ArmArrays(**{name: getattr(self, name)[rows] for name in self.__slots__})

    @classmethod
    def from_mapping(cls, arrays: Mapping[str, Floats]) -> ArmArrays:
        """Picks the arrays by name out of a bundle's. Raises KeyError when one is missing."""
        return cls(**{name: np.asarray(arrays[name], np.float64) for name in cls.__slots__})


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """From a raw score to a probability with its interval, all on one grid of raw scores.

    `scores` (c,) rises; `accuracy`, `low` and `high` (c,) are the isotonic fit and the
    central 90 % interval of the share of correct answers around it.
    """

    scores: Floats
    accuracy: Floats
    low: Floats
    high: Floats

    def __call__(self, raw: Floats) -> tuple[Floats, Floats, Floats]:
        """The probability and both ends of its interval, each of the shape of `raw`."""
        return (
            np.interp(raw, self.scores, self.accuracy),
            np.interp(raw, self.scores, self.low),
            np.interp(raw, self.scores, self.high),
        )


class LearnedPredictor:
    """Predicts with a trained model for the arms of a catalog."""

    def __init__(
        self,
        *,
        booster: Booster,
        calibration: Calibration,
        trained_arms: Sequence[Arm],
        arrays: ArmArrays,
        catalog: Catalog,
    ) -> None:
        """Binds what was trained to the catalog's arms.

        An arm that was not trained on is predicted from its descriptors, and its cost and
        latency from the published scaling figures.
        """
        self._booster = booster
        self._calibration = calibration
        self._arms = catalog.arms
        models = [catalog.model(arm.model) for arm in catalog.arms]
        index = {arm.key: row for row, arm in enumerate(trained_arms)}
        rows = [index.get(arm.key) for arm in catalog.arms]
        self._descriptors = np.array(
            [
                _descriptor(arm, model, row, arrays)
                for arm, model, row in zip(catalog.arms, models, rows, strict=True)
            ]
        ).reshape(len(rows), len(ARM_FEATURES))
        bound = _bind(arrays, rows, catalog.arms, models)
        self._smearing = np.log(bound.cost_smearing)
        self._weights = np.stack(
            (bound.cost_weights, bound.token_weights, bound.latency_weights)
        ).reshape(3 * len(rows), -1)
        self._latency_quantiles = bound.latency_quantiles
        self._energy_wh_per_token = np.array([m.energy_wh_per_ktok / 1_000 for m in models])

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The catalog's arms."""
        return self._arms

    def rows(self, values: Floats) -> Floats:
        """The (query, arm) rows of a context (f,), shape (a, f + len(ARM_FEATURES))."""
        rows = np.empty((len(self._arms), len(values) + len(ARM_FEATURES)))
        rows[:, : len(values)] = values
        rows[:, len(values) :] = self._descriptors
        return rows

    def predict(self, context: Context) -> Predictions:
        """What each arm is expected to bring; arrays of shape (a,)."""
        raw = self._booster.predict(self.rows(context.values), raw_score=True, num_threads=1)
        accuracy, low, high = self._calibration(raw)
        logs = self._weights[:, 0] + self._weights[:, 1:] @ context.values
        log_cost, log_tokens, log_latency = logs.reshape(3, -1)
        tokens = np.exp(log_tokens)
        latency_s = np.exp(log_latency[:, None] + self._latency_quantiles)
        return Predictions(
            accuracy=accuracy,
            accuracy_low=low,
            accuracy_high=high,
            cost_usd=np.exp(log_cost + self._smearing),
            latency_p50_s=latency_s[:, 0],
            latency_p95_s=latency_s[:, 1],
            latency_p99_s=latency_s[:, 2],
            output_tokens=tokens,
            energy_wh=(context.input_tokens + np.where(tokens > 0, tokens, 0.0))
            * self._energy_wh_per_token,
        )


def _descriptor(arm: Arm, model: Model, row: int | None, arrays: ArmArrays) -> Floats:
    if row is None:
        return describe(arm, model, index=None)
    return describe(
        arm,
        model,
        index=row,
        mean_accuracy=float(arrays.mean_accuracy[row]),
        mean_cost_usd=float(arrays.mean_cost_usd[row]),
    )


def _bind(
    arrays: ArmArrays, rows: Sequence[int | None], arms: Sequence[Arm], models: Sequence[Model]
) -> ArmArrays:
    """The arrays of the arms, with the published priors where an arm has no row."""
    bound = arrays.take(np.array([0 if row is None else row for row in rows], dtype=np.intp))
    for place, row in enumerate(rows):
        if row is None:
            _set_prior(bound, place, arms[place], models[place])
    return bound


def _set_prior(bound: ArmArrays, place: int, arm: Arm, model: Model) -> None:
    expected = prior(arm, model)
    for weights, value in (
        (bound.cost_weights, expected.cost_usd),
        (bound.token_weights, expected.output_tokens),
        (bound.latency_weights, expected.latency_s),
    ):
        weights[place] = 0.0
        weights[place, 0] = math.log(max(value, 1e-12))
    bound.cost_smearing[place] = 1.0
    bound.latency_quantiles[place] = LATENCY_SPREAD
