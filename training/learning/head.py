"""The head: stacked signals, and the trees that start from them."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from router.policy.arms import ARM_FEATURES
from router.policy.features import ROW_FEATURES, TEXT_FEATURES
from router.policy.signals import SIGNALS
from router.types import Floats
from training.learning.columns import Base, parts
from training.learning.contexts import Contexts
from training.learning.growing import Forest, grown
from training.learning.logistic import logistic
from training.learning.recipe import Recipe
from training.log.dataset import Rows

THREADS = 1
MOST_TREES = 32
_LEAVES = 7
_LEAST_SCORE = 1e-3
_STACKED_ROWS = 100_000
_STACKING_PENALTY_INVERSE = 0.1
_RISING = "arm_log_compute"
_SIGNALS = slice(len(TEXT_FEATURES), len(TEXT_FEATURES) + len(SIGNALS))


class Head:
    """The stack and the trees on top of it, fitted to out-of-fold columns (n, ROW_FEATURES)."""

    def __init__(self, *, arms: int, seed: int, recipe: Recipe) -> None:
        self.arms = arms
        self.seed = seed
        self.recipe = recipe

    def fit(self, columns: Floats, rows: Rows) -> Self:
        """Learns from rows (n,) that all have a score."""
        columns = np.where(self.recipe.columns, columns, 0.0)
        self._stack(columns[:, _SIGNALS], rows)
        forest = Forest(
            columns=columns,
            label=np.clip(rows.score, _LEAST_SCORE, 1.0 - _LEAST_SCORE),
            weight=rows.weight,
            start=columns[:, _SIGNALS] @ self.weights_ + self.intercepts_[rows.arm],
            names=ROW_FEATURES,
            categorical=[ARM_FEATURES[0]],
            parameters=self._parameters(len(rows)),
            trees=int(np.clip(len(rows) // 40, 16, MOST_TREES)) if self.recipe.trees else 1,
        )
        self.booster_ = grown(forest)
        return self

    def predict(self, base: Base, contexts: Contexts) -> Floats:
        """The log-odds (n, a) of contexts, whose columns the base makes."""
        found = np.empty((len(contexts), self.arms))
        for part in parts(len(contexts), self.arms):
            columns = base.rows(contexts.take(part))
            trees = self.booster_.predict(columns, raw_score=True, num_threads=THREADS)
            start = (columns[:, _SIGNALS] @ self.weights_).reshape(-1, self.arms)
            found[part] = start + self.intercepts_ + np.asarray(trees).reshape(-1, self.arms)
        return found

    def _stack(self, signals: Floats, rows: Rows) -> None:
        """One weight per signal and an intercept per arm, shrunk to a common one."""
        chosen = np.arange(len(rows))
        if len(rows) > _STACKED_ROWS:
            drawn = np.random.default_rng(self.seed).choice(len(rows), _STACKED_ROWS, replace=False)
            chosen = np.sort(drawn)
        few = rows.take(chosen)
        columns = np.hstack((signals[chosen], np.eye(self.arms)[few.arm]))
        bias, weights = logistic(columns, few.score, few.weight, _STACKING_PENALTY_INVERSE)
        self.weights_, self.intercepts_ = weights[: len(SIGNALS)], bias + weights[len(SIGNALS) :]

    def _parameters(self, rows: int) -> dict[str, Any]:
        """Small trees and few: the stack has said most, and twice as many overstate it.

        The same rows give the same model, bit for bit.
        """
        return {
            "objective": "cross_entropy",
            "learning_rate": 0.08,
            "num_leaves": _LEAVES,
            "min_data_in_leaf": int(np.clip(rows // 200, 5, 40)),
            "min_gain_to_split": 0.0 if self.recipe.trees else 1e9,
            "lambda_l2": 5.0,
            "feature_fraction": 0.6,
            "bagging_fraction": 0.8,
            "bagging_freq": 1,
            "cat_smooth": 10.0,
            "min_data_per_group": 5,
            "max_bin": 127,
            "monotone_constraints": [int(name == _RISING) for name in ROW_FEATURES],
            "seed": self.seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": THREADS,
            "verbose": -1,
        }
