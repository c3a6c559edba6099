"""What each arm is expected to bring for a query: accuracy, cost, latency, tokens, energy.

Accuracy comes from signals, stacked, and one LightGBM model over (query, arm) rows that
starts from them, and is calibrated; what an arm spends comes from `spending`. All arms are
predicted in one call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from router.policy.arms import ARM_FEATURES, describe
from router.policy.bundled import Bundled
from router.policy.calibration import Calibration
from router.policy.features import ROW_FEATURES, TEXT_FEATURES, Context
from router.policy.novelty import Novelty, NoveltyArrays
from router.policy.priors import expected_accuracy
from router.policy.signals import SIGNALS, SignalArrays, Signals
from router.policy.spending import SpendingArrays, SpendingPredictor
from router.types import Arm, Catalog, Floats, Model, Predictions


class Booster(Protocol):
    """The part of lightgbm.Booster that predictions need; thread-safe."""

    def predict(self, data: Floats, *, raw_score: bool = ..., num_threads: int = ...) -> Any:
        """Scores of the rows of `data` (n, f), shape (n,)."""

    def contributions(self, data: Floats) -> Floats:
        """What each column adds to the raw scores, then what any row has; shape (n, f + 1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """What a policy makes of a query alone, before any slo: its context and predictions.

    `novelty` is how unlike the training queries it is: the share of those that were less
    so, None where the policy does not say. `views` is the same of its parts, where the guard
    has asked for them before.
    """

    context: Context
    predictions: Predictions
    novelty: float | None = None
    views: tuple[Predicted, ...] | None = None


class Predictor(Protocol):
    """Predicts for a fixed row of arms. Pure and thread-safe: same context, same numbers."""

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The arms, in the order of every prediction."""

    def predict(self, contexts: Sequence[Context]) -> list[Predicted]:
        """What each arm is expected to bring for each context; arrays of shape (a,).

        Contexts that are predicted together cost less, and come out the same bit for bit.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmArrays(Bundled):
    """What was learnt per arm; a bundle holds each array under its own name.

    `mean_accuracy` and `mean_cost_usd` (a,) are the training log's, NaN where it never had
    the figure.
    """

    PREFIX: ClassVar[str] = ""

    mean_accuracy: Floats
    mean_cost_usd: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Makeup:
    """What the predictions of k arms for one context are made of.

    `nearness` (l,) is that of each landmark; `signals` (k, s) and `columns` (k, r) are the
    rows that the trees see, and `trees` (k, r + 1) what each column adds to the `log_odds`
    (k,) that are then calibrated, what trees expect of any row last.
    """

    nearness: Floats
    signals: Floats
    columns: Floats
    trees: Floats
    log_odds: Floats


class LearnedPredictor:
    """Predicts with a trained model for the arms of a catalog.

    `signal_arrays` and `calibration` are what was learnt, bound to those arms, and
    `mean_accuracy` is that of each trained arm by key.
    """

    def __init__(
        self,
        *,
        booster: Booster,
        arrays: Mapping[str, Floats],
        trained_arms: Sequence[Arm],
        catalog: Catalog,
    ) -> None:
        """Binds what was trained, a bundle's arrays, to the catalog's arms.

        An arm whose accuracy was never seen is predicted from its prior and from what all
        arms share around a query, and its spending from the published scaling figures.
        Raises KeyError when an array is missing.
        """
        self._booster = booster
        self._arms = catalog.arms
        models = [catalog.model(arm.model) for arm in catalog.arms]
        per_arm = ArmArrays.from_mapping(arrays)
        means = dict(zip([arm.key for arm in trained_arms], per_arm.mean_accuracy, strict=True))
        seen = {key: float(mean) for key, mean in means.items() if not np.isnan(mean)}
        self.mean_accuracy = seen
        place = {key: index for index, key in enumerate(means) if key in seen}
        expected = expected_accuracy(catalog.arms, models, seen)
        learnt = SignalArrays.from_mapping(arrays)
        self.signal_arrays = learnt.bind(place, catalog.arms, expected)
        self._signals = Signals(self.signal_arrays)
        unlike = NoveltyArrays.found(arrays)
        self._novelty = None if unlike is None else Novelty(unlike, learnt.rarity)
        self.calibration = Calibration.from_mapping(arrays).bind(place, catalog.arms)
        self._descriptors = np.array(
            [
                _descriptor(arm, model, place.get(arm.key), per_arm, prior)
                for arm, model, prior in zip(catalog.arms, models, expected, strict=True)
            ]
        ).reshape(len(models), len(ARM_FEATURES))
        self._spending = SpendingPredictor(
            arrays=SpendingArrays.from_mapping(arrays), trained_arms=trained_arms, catalog=catalog
        )

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The catalog's arms."""
        return self._arms

    def rows(self, values: Floats, signals: Floats) -> Floats:
        """The (query, arm) rows of contexts (n, f) and signals (n, a, s), shape (n x a, r)."""
        rows = np.empty((*signals.shape[:2], len(ROW_FEATURES)))
        rows[:, :, :_TEXT] = values[:, None, :_TEXT]
        rows[:, :, _TEXT:_DESCRIBED] = signals
        rows[:, :, _DESCRIBED:] = self._descriptors
        return rows.reshape(-1, len(ROW_FEATURES))

    def predict(self, contexts: Sequence[Context]) -> list[Predicted]:
        """As Predictor says."""
        values = np.stack([context.values for context in contexts])
        input_tokens = np.array([context.input_tokens for context in contexts], np.float64)
        words = [context.words for context in contexts]
        place = self._signals.place(values)
        near = self._signals.nearness(place)
        signals = self._signals.at(place, near, words)
        trees = self._booster.predict(self.rows(values, signals), raw_score=True, num_threads=1)
        raw = self._signals.start(signals) + trees.reshape(len(values), -1)
        accuracy, low, high = self.calibration(raw)
        spent = self._spending.predict(values, input_tokens)
        predictions = [
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
        novelty = [None] * len(words) if self._novelty is None else self._novelty(near, words)
        return [
            Predicted(context=context, predictions=found, novelty=share)
            for context, found, share in zip(contexts, predictions, novelty, strict=True)
        ]

    def makeup(self, context: Context, places: Sequence[int]) -> Makeup:
        """What the predictions of the arms at some places are made of; costs more than they do."""
        values, chosen = context.values[None], list(places)
        signals = self._signals(values, [context.words])
        columns = self.rows(values, signals)[chosen]
        trees = np.asarray(self._booster.predict(columns, raw_score=True, num_threads=1))
        return Makeup(
            nearness=self._signals.nearness(self._signals.place(values))[0],
            signals=signals[0, chosen],
            columns=columns,
            trees=self._booster.contributions(columns),
            log_odds=self._signals.start(signals)[0, chosen] + trees,
        )


_TEXT = len(TEXT_FEATURES)
_DESCRIBED = _TEXT + len(SIGNALS)


def _descriptor(
    arm: Arm, model: Model, row: int | None, arrays: ArmArrays, expected: float
) -> Floats:
    if row is None:
        return describe(arm, model, index=None, mean_accuracy=expected)
    return describe(
        arm,
        model,
        index=row,
        mean_accuracy=float(arrays.mean_accuracy[row]),
        mean_cost_usd=float(arrays.mean_cost_usd[row]),
    )
