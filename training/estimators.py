"""The accuracy model: one LightGBM over (query, arm) rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import lightgbm
import numpy as np

from router.policy.arms import ARM_FEATURES, describe
from router.types import Arm, Floats, Model
from training.dataset import Indices, Rows

THREADS = 1
"""One thread: with two, OpenMP spins for minutes where a server keeps the cores busy."""
MOST_TREES = 128  # as accurate as 250 at half the rate on real logs, and each costs 0.5 us
_SHRINKAGE_ROWS = 20.0
_LEAST_SCORE = 1e-3
_PREDICTED_ROWS = 65_536


class ArmTable:
    """Descriptors of the arms; their mean accuracy and cost are those of the rows fitted on."""

    def __init__(self, arms: Sequence[Arm], models: Sequence[Model]) -> None:
        self.arms = arms
        self.models = models

    def fit(self, rows: Rows) -> Self:
        """Learns the means from these rows alone, so that no other row's score leaks in."""
        count = len(self.arms)
        scored = rows.take(~np.isnan(rows.score))
        costed = rows.take(~np.isnan(rows.cost_usd))
        prior = float(np.average(scored.score, weights=scored.weight)) if len(scored) else 0.5
        weight = np.bincount(scored.arm, scored.weight, count)
        total = np.bincount(scored.arm, scored.weight * scored.score, count)
        shrunk = (total + _SHRINKAGE_ROWS * prior) / (weight + _SHRINKAGE_ROWS)
        self.mean_accuracy_ = np.where(weight > 0, shrunk, np.nan)
        self.mean_cost_usd_ = _means(costed.arm, costed.cost_usd, costed.weight, count)
        by_name = {model.name: model for model in self.models}
        self.descriptors_ = np.array(
            [
                describe(
                    arm,
                    by_name[arm.model],
                    index=index,
                    mean_accuracy=float(self.mean_accuracy_[index]),
                    mean_cost_usd=float(self.mean_cost_usd_[index]),
                )
                for index, arm in enumerate(self.arms)
            ]
        )
        return self


def _means(arm: Indices, values: Floats, weights: Floats, count: int) -> Floats:
    weight = np.bincount(arm, weights, count)
    total = np.bincount(arm, weights * values, count)
    means = np.divide(total, weight, out=np.full(count, np.nan), where=weight > 0)
    return np.asarray(means)


class AccuracyModel:
    """Predicts the log-odds of a correct answer from a context and an arm's descriptors.

    A row is the context's columns, then those of ARM_FEATURES, as
    `router.policy.predictor.LearnedPredictor.rows` lays it out.
    """

    def __init__(self, *, names: Sequence[str], seed: int = 0) -> None:
        self.names = names
        self.seed = seed

    def fit(self, contexts: Floats, table: ArmTable, rows: Rows) -> Self:
        """Learns from the scored rows; contexts (q, f) are indexed by the rows' queries."""
        scored = rows.take(~np.isnan(rows.score))
        self.descriptors_ = table.descriptors_
        data = lightgbm.Dataset(
            np.hstack((contexts[scored.query], self.descriptors_[scored.arm])),
            label=np.clip(scored.score, _LEAST_SCORE, 1.0 - _LEAST_SCORE),
            weight=scored.weight,
            feature_name=list(self.names),
            categorical_feature=[ARM_FEATURES[0]],
            params=self._parameters(len(scored)),
        )
        trees = int(np.clip(len(scored) // 40, 40, MOST_TREES))
        self.booster_ = lightgbm.train(self._parameters(len(scored)), data, num_boost_round=trees)
        return self

    def predict(self, contexts: Floats) -> Floats:
        """Raw scores of every arm for each context, shape (q, a)."""
        return np.concatenate([self._raw(part) for part in self._parts(contexts)])

    def rows(self, contexts: Floats) -> Floats:
        """The (query, arm) rows of contexts (q, f), shape (q x a, f + len(ARM_FEATURES))."""
        arms = len(self.descriptors_)
        repeated = np.repeat(contexts, arms, axis=0)
        return np.hstack((repeated, np.tile(self.descriptors_, (len(contexts), 1))))

    def _raw(self, contexts: Floats) -> Floats:
        raw = self.booster_.predict(self.rows(contexts), raw_score=True, num_threads=THREADS)
        return np.asarray(raw, np.float64).reshape(len(contexts), -1)

    def _parts(self, contexts: Floats) -> Iterator[Floats]:
        step = max(_PREDICTED_ROWS // len(self.descriptors_), 1)
        for start in range(0, max(len(contexts), 1), step):
            yield contexts[start : start + step]

    def _parameters(self, rows: int) -> dict[str, Any]:
        """Smaller trees for fewer rows. The same rows give the same model, bit for bit."""
        return {
            "objective": "cross_entropy",
            "learning_rate": 0.08,
            "num_leaves": int(np.clip(rows // 100, 4, 31)),
            "min_data_in_leaf": int(np.clip(rows // 200, 5, 40)),
            "lambda_l2": 5.0,
            "feature_fraction": 0.6,
            "bagging_fraction": 0.8,
            "bagging_freq": 1,
            "cat_smooth": 10.0,
            "min_data_per_group": 5,
            "max_bin": 127,
            "seed": self.seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": THREADS,
            "verbose": -1,
        }
