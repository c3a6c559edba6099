"""What outcomes teach of one arm that a policy was not trained on, with all else as it is.

The arm is learnt around what all arms share, as a blend of those most like it and with
neighbours of its own; the landmarks, the stack and the trees stay as they were trained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.optimize import brentq

from router.policy.calibration import UNKNOWN
from router.policy.features import Context
from router.policy.predictor import Booster, LearnedPredictor
from router.policy.priors import expect
from router.policy.resemblance import borrowed
from router.policy.signals import SignalArrays, Signals
from router.policy.spending import SpendingArrays, prior_arrays
from router.types import Arm, Catalog, Floats, Model
from training.learning.signals import by_landmark, ridge
from training.log.dataset import Indices, Rows

Arrays = Mapping[str, Floats]

_BLENDED = ("signal_kernel", "signal_probe", "signal_words")
_NOISE_VARIANCE = 0.18
_SHARED_SPREAD, _BORROWED_SPREAD = 0.5, 0.2
_KERNEL_PENALTY = 8.0
_FURTHEST = 20.0
_TAIL = 1.645
_LEAST = 1e-3
_PART = 2_048


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedArms:
    """A policy's a arms with a model for each, its booster, and the arrays of its bundle."""

    arms: tuple[Arm, ...]
    models: tuple[Model, ...]
    booster: Booster
    arrays: Arrays

    @property
    def seen(self) -> Mapping[str, float]:
        """The mean accuracy, by key, of each arm that was ever scored."""
        means = zip(self.arms, self.arrays["mean_accuracy"].tolist(), strict=True)
        return {arm.key: mean for arm, mean in means if not math.isnan(mean)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcomes:
    """Scored rows: their contexts' columns (n, f), what trained arms are predicted, weights.

    `predicted` (n, a); `weight` (n,) sums to as many equal rows as these tell as much as.
    """

    values: Floats
    predicted: Floats
    score: Floats
    weight: Floats

    def take(self, which: Any) -> _Outcomes:
        return _Outcomes(**{name: getattr(self, name)[which] for name in self.__slots__})


class NewArm:
    """Learns one arm by maximum a posteriori.

    `expected` is its accuracy before any outcome, and `prior_rows` how many rows' worth of
    outcomes that is. After `fit`, `columns_` are what a bundle's arrays per arm take in for
    it; `before_` and `out_of_fold_` (n,) are what each row was predicted: before any
    outcome of the arm, and from the other folds' outcomes.
    """

    def __init__(self, trained: TrainedArms, arm: Arm, model: Model) -> None:
        self.trained = trained
        self.arm = arm
        self.model = model
        found = expect([*trained.arms, arm], [*trained.models, model], trained.seen)
        self.expected, self.prior_rows = float(found.accuracy[-1]), float(found.rows[-1])
        self._borrowed = borrowed(arm, model, trained.arms, trained.models)
        self._signals = SignalArrays.from_mapping(trained.arrays)

    def fit(self, contexts: Sequence[Context], rows: Rows, fold: Indices) -> Self:
        """Learns from rows (n,) that all have a score, with their contexts and folds."""
        known = self._predict(unknown(self.trained.arrays), contexts)
        every = _Outcomes(
            values=np.stack([each.values for each in contexts]),
            predicted=known[:, :-1],
            score=rows.score,
            weight=rows.weight * rows.weight.sum() / (rows.weight**2).sum(),
        )
        self.before_, found = known[:, -1], np.empty(len(rows))
        for number in np.unique(fold):
            inside = np.flatnonzero(fold == number)
            columns = self._learn(every.take(fold != number))
            found[inside] = self.predict([contexts[place] for place in inside.tolist()], columns)
        columns = self._learn(every)
        offset = self._offset(_log_odds(found), every, float(columns["signal_base"]))
        self.out_of_fold_ = _logistic(_log_odds(found) + offset)
        self.columns_ = {
            **columns,
            "calibration_offset": columns["calibration_offset"] + offset,
            "mean_cost_usd": _mean(rows.cost_usd, rows.weight),
        }
        return self

    def predict(self, contexts: Sequence[Context], columns: Arrays | None = None) -> Floats:
        """The predicted accuracy of the arm, (n,); as learnt, or with other `columns`."""
        return self._predict(self.columns_ if columns is None else columns, contexts)[:, -1]

    def _learn(self, outcomes: _Outcomes) -> Arrays:
        """What outcomes teach, but for the offset, which takes predictions that saw none."""
        rows = float(outcomes.weight.sum()) + self.prior_rows
        shared = self._above(outcomes).mean(axis=1)
        total = float(outcomes.weight @ (outcomes.score - shared))
        base = min(max((total + self.prior_rows * self.expected) / rows, _LEAST), 1.0 - _LEAST)
        away, blend = outcomes.score - base, self._blend(outcomes, base)
        arrays = self.trained.arrays
        columns = {name: arrays[name] @ blend for name in _BLENDED}
        signals = Signals(self._signals)
        place = signals.place(outcomes.values)
        near = signals.nearness(place)
        rest = away - near @ (self._signals.kernel[:, 0] + columns["signal_kernel"])
        penalty = _KERNEL_PENALTY * signals.nearness(self._signals.landmarks)
        columns["signal_kernel"] += ridge(near, rest, outcomes.weight, penalty)
        sums, counts = by_landmark(place, self._signals.landmarks, away, outcomes.weight)
        doubt = _TAIL * math.sqrt(base * (1.0 - base) / rows)
        return {
            **unknown(arrays),
            **columns,
            "signal_base": np.array(base),
            "signal_sums": sums,
            "signal_counts": counts,
            "calibration_doubt": np.array(min(doubt, UNKNOWN)),
            "mean_accuracy": np.array(base),
        }

    def _blend(self, outcomes: _Outcomes, base: float) -> Floats:
        """How much the arm has of what is shared, on top of what every arm has, and of each arm's.

        Shape (1 + a,); the prior is none of the first and what is borrowed of the others.
        """
        above = self._above(outcomes)
        shared = above.mean(axis=1)
        parts = np.column_stack((shared, above - shared[:, None]))
        prior = np.concatenate(([0.0], self._borrowed))
        spread = np.full(len(prior), _BORROWED_SPREAD)
        spread[0] = _SHARED_SPREAD
        rest = outcomes.score - base - shared - parts @ prior
        penalty = np.diag(_NOISE_VARIANCE / spread**2)
        return prior + ridge(parts, rest, outcomes.weight, penalty)

    def _offset(self, log_odds: Floats, outcomes: _Outcomes, base: float) -> float:
        """What to add to log-odds (n,) so that their mean is the base's, as hard as these are."""
        shared = self._above(outcomes).mean(axis=1)
        mean = base + float(np.average(shared, weights=outcomes.weight))
        target = min(max(mean, _LEAST), 1.0 - _LEAST)

        def excess(offset: float) -> float:
            found = np.average(_logistic(log_odds + offset), weights=outcomes.weight)
            return float(found) - target

        return float(brentq(excess, -_FURTHEST, _FURTHEST))

    def _above(self, outcomes: _Outcomes) -> Floats:
        """What trained arms are predicted above their means, (n, a); 0 if never scored."""
        means = self.trained.arrays["mean_accuracy"]
        return outcomes.predicted - np.where(np.isnan(means), outcomes.predicted, means)

    def _predict(self, columns: Arrays, contexts: Sequence[Context]) -> Floats:
        """What a policy with the arm in it predicts, the arm last; (n, a + 1)."""
        trained = self.trained
        spending = prior_arrays([self.arm], [self.model], len(contexts[0].values))
        arms = (*trained.arms, self.arm)
        models = {model.name: model for model in (*trained.models, self.model)}
        predictor = LearnedPredictor(
            booster=trained.booster,
            arrays=taken_in(trained.arrays, [columns], spending),
            trained_arms=arms,
            catalog=Catalog(models=tuple(models.values()), arms=arms),
        )
        return np.array(
            [
                found.predictions.accuracy
                for start in range(0, len(contexts), _PART)
                for found in predictor.predict(contexts[start : start + _PART])
            ]
        )


def unknown(arrays: Arrays) -> Arrays:
    """The columns of an arm of which nothing is known: it is predicted from its prior."""
    blank = {name: np.zeros(len(arrays[name])) for name in _BLENDED}
    nowhere = np.zeros(len(arrays["signal_sums"]))
    return {
        **blank,
        "signal_base": np.array(arrays["signal_mean"]),
        "signal_sums": nowhere,
        "signal_counts": nowhere,
        "signal_intercepts": arrays["signal_intercepts"].mean(),
        "calibration_offset": arrays["calibration_offset"].mean(),
        "calibration_doubt": np.array(UNKNOWN),
        "mean_accuracy": np.array(math.nan),
        "mean_cost_usd": np.array(math.nan),
    }


def taken_in(
    arrays: Arrays, columns: Sequence[Arrays], spending: SpendingArrays
) -> dict[str, Floats]:
    """A bundle's arrays with more arms behind those that it has; evidence stays as it was."""
    more = {name: np.stack([each[name] for each in columns], axis=-1) for name in columns[0]}
    joined = {name: np.concatenate((arrays[name], added), axis=-1) for name, added in more.items()}
    spent = {
        name: np.concatenate((arrays[name], added)) for name, added in spending.to_mapping().items()
    }
    return {**arrays, **joined, **spent}


def _log_odds(probability: Floats) -> Floats:
    cut = np.clip(probability, _LEAST, 1.0 - _LEAST)
    return np.asarray(np.log(cut / (1.0 - cut)))


def _logistic(log_odds: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-log_odds)))


def _mean(values: Floats, weight: Floats) -> Floats:
    known = ~np.isnan(values)
    if not known.any():
        return np.array(math.nan)
    return np.asarray(np.average(values[known], weights=weight[known]))
