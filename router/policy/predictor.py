"""What each arm is expected to bring for a query: accuracy, cost, latency, tokens, energy.

Accuracy comes from one LightGBM model over (query, arm) rows and is calibrated; what an
arm spends comes from `spending`. All arms are predicted in one call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from router.policy.arms import ARM_FEATURES, describe
from router.policy.features import Context
from router.policy.spending import SpendingArrays, SpendingPredictor
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

    def predict(self, contexts: Sequence[Context]) -> list[Predictions]:
        """What each arm is expected to bring for each context; arrays of shape (a,).

        Contexts that are predicted together cost less, and come out the same bit for bit.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmArrays:
    """What was learnt per arm; the names are those of the bundle's arrays.

    `mean_accuracy` and `mean_cost_usd` (a,) are the training log's, NaN where it never had
    the figure.
    """

    mean_accuracy: Floats
    mean_cost_usd: Floats

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
        spending: SpendingArrays,
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
        self._spending = SpendingPredictor(
            arrays=spending, trained_arms=trained_arms, catalog=catalog
        )

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The catalog's arms."""
        return self._arms

    def rows(self, values: Floats) -> Floats:
        """The (query, arm) rows of contexts (n, f), shape (n x a, f + len(ARM_FEATURES))."""
        count, width = values.shape
        rows = np.empty((count, len(self._arms), width + len(ARM_FEATURES)))
        rows[:, :, :width] = values[:, None, :]
        rows[:, :, width:] = self._descriptors
        return rows.reshape(count * len(self._arms), -1)

    def predict(self, contexts: Sequence[Context]) -> list[Predictions]:
        """As Predictor says."""
        values = np.stack([context.values for context in contexts])
        input_tokens = np.array([context.input_tokens for context in contexts], np.float64)
        raw = self._booster.predict(self.rows(values), raw_score=True, num_threads=1)
        accuracy, low, high = self._calibration(raw.reshape(len(values), -1))
        spent = self._spending.predict(values, input_tokens)
        return [
            Predictions(
                accuracy=accuracy[row],
                accuracy_low=low[row],
                accuracy_high=high[row],
                cost_usd=spent.cost_usd[row],
                latency_p50_s=spent.latency_s[row, 0],
                latency_p95_s=spent.latency_s[row, 1],
                latency_p99_s=spent.latency_s[row, 2],
                output_tokens=spent.output_tokens[row],
                energy_wh=spent.energy_wh[row],
            )
            for row in range(len(values))
        ]


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
