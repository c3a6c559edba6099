"""Rival ways: a plain model of each arm's accuracy, then value x accuracy - cost.

All share one model of cost, a ridge regression of its logarithm, so that they differ by
their accuracy model alone. Every model is tuned inside the training side.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, Self

import lightgbm
import numpy as np
from sklearn.dummy import DummyRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from router.types import Floats
from training.benchmark.encoding import Encoder
from training.benchmark.ways import Predicted, Walked, best_arms, spent
from training.log.dataset import Dataset, Indices

LEAST_ROWS = 20
"""An arm with fewer outcomes is predicted by their mean."""

_NEIGHBOURS = (5, 10, 20, 40, 60, 100, 160, 240)
_PENALTIES = np.logspace(-1, 4, 11)
_DECAYS = (3.0, 10.0, 30.0, 100.0)
_FOLDS, _MLP_FOLDS = 5, 3
_EPOCHS = 100
_LEAST_COST_USD = 1e-12
_INTERRUPTED = "Training interrupted by user"
_TREES = 120


class Regressor(Protocol):
    """A scikit-learn estimator of several targets at once."""

    def fit(self, features: Floats, targets: Floats) -> Any:
        """Learns targets, (n, k) or (n,) when k is 1, from features (n, f)."""

    def predict(self, features: Floats) -> Any:
        """The expected targets, (n, k) or (n,) when k is 1."""


class PerArm:
    """One regressor for every group of arms that were tried on the same queries.

    A full-information log has one group, a bandit log one per arm.
    """

    def __init__(self, make: Callable[[int], Regressor]) -> None:
        self.make = make

    def fit(self, features: Floats, targets: Floats) -> Self:
        """Learns from the known among the targets (q, a), NaN where not known."""
        self.arms = targets.shape[1]
        self.groups_ = [
            (arms, self._fitted(features[known], targets[np.ix_(known, arms)]))
            for known, arms in _groups(~np.isnan(targets))
        ]
        return self

    def predict(self, features: Floats) -> Floats:
        """The expected target of every arm, (q, a); NaN where an arm had none."""
        found = np.full((len(features), self.arms), np.nan)
        for arms, fitted in self.groups_:
            found[:, arms] = np.reshape(fitted.predict(features), (len(features), -1))
        return found

    def _fitted(self, features: Floats, targets: Floats) -> Regressor:
        made = self.make(len(targets)) if len(targets) >= LEAST_ROWS else DummyRegressor()
        made.fit(features, targets if targets.shape[1] > 1 else targets[:, 0])
        return made


def _groups(known: Any) -> Iterator[tuple[Indices, Indices]]:
    patterns, group = np.unique(known.T, axis=0, return_inverse=True)
    for place, pattern in enumerate(patterns):
        if pattern.any():
            yield np.flatnonzero(pattern), np.flatnonzero(group.ravel() == place)


class Rival:
    """A way that predicts each arm's accuracy and cost from the text, and tries one arm."""

    def __init__(
        self, name: str, features: Callable[[Dataset], Floats], make: Callable[[int], Regressor]
    ) -> None:
        self.name = name
        self.features = features
        self.make = make

    def fit(self, train: Dataset) -> Self:
        """Learns both models."""
        features, cost_usd = self.features(train), train.table("cost_usd")
        with _interruptible():
            self.accuracy_ = PerArm(self.make).fit(features, train.table("score"))
        logs = np.log(np.maximum(cost_usd, _LEAST_COST_USD))
        self.cost_ = PerArm(linear_regressor).fit(features, logs)
        self.smearing_ = _ratio(cost_usd, np.exp(self.cost_.predict(features)))
        return self

    def walk(self, test: Dataset, values_usd: Floats) -> Walked:
        """As Way says."""
        features = self.features(test)
        accuracy = np.clip(self.accuracy_.predict(features), 0.0, 1.0)
        cost_usd = np.exp(self.cost_.predict(features)) * self.smearing_
        chosen = best_arms(accuracy, cost_usd, values_usd)
        return spent(chosen, test, Predicted(accuracy=accuracy))


@contextmanager
def _interruptible() -> Iterator[None]:
    """Lets Ctrl-C through, which scikit-learn's networks turn into a warning and half a fit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("error", _INTERRUPTED)
        try:
            yield
        except UserWarning as warning:
            if _INTERRUPTED in str(warning):
                raise KeyboardInterrupt from None
            raise


def _ratio(told: Floats, foretold: Floats) -> Floats:
    """What each arm (a,) cost in all over what its model says, where both (q, a) are known."""
    known = ~np.isnan(told) & ~np.isnan(foretold)
    total = np.where(known, told, 0.0).sum(axis=0)
    expected = np.where(known, foretold, 0.0).sum(axis=0)
    ratio = np.divide(total, expected, out=np.ones_like(total), where=expected > 0)
    return np.asarray(ratio)


def knn(encoder: Encoder, seed: int) -> Rival:
    """The mean score of the k nearest texts by embedding; k by cross-validated Brier score."""

    def make(rows: int) -> Regressor:
        fitting = [k for k in _NEIGHBOURS if k <= rows * (_FOLDS - 1) // _FOLDS]
        search: Regressor = GridSearchCV(
            KNeighborsRegressor(algorithm="brute"),
            {"n_neighbors": fitting},
            scoring="neg_mean_squared_error",
            cv=KFold(_FOLDS, shuffle=True, random_state=seed),
            error_score="raise",
        )
        return search

    return Rival("knn", encoder.vectors, make)


def linear(encoder: Encoder) -> Rival:
    """Ridge regression of the score; the penalty of each arm by leave-one-out error."""
    return Rival("linear", encoder.features, linear_regressor)


def linear_regressor(_rows: int) -> Regressor:
    """Ridge regression on standardised features."""
    made: Regressor = make_pipeline(StandardScaler(), RidgeCV(_PENALTIES, alpha_per_target=True))
    return made


def mlp(encoder: Encoder, seed: int) -> Rival:
    """One hidden layer of 64 on standardised features; its penalty by cross-validation."""

    def make(_rows: int) -> Regressor:
        network = MLPRegressor(hidden_layer_sizes=(64,), max_iter=_EPOCHS, random_state=seed)
        search: Regressor = GridSearchCV(
            make_pipeline(StandardScaler(), network),
            {"mlpregressor__alpha": _DECAYS},
            scoring="neg_mean_squared_error",
            cv=KFold(_MLP_FOLDS, shuffle=True, random_state=seed),
            error_score="raise",
        )
        return search

    return Rival("mlp", encoder.features, make)


def trees(encoder: Encoder, seed: int) -> Rival:
    """A LightGBM model per arm on the raw embedding and the text features."""
    return Rival("lightgbm", encoder.features, lambda _rows: TreesPerTarget(seed))


class TreesPerTarget:
    """LightGBM with cross-entropy, one booster per target; the same rows give the same one."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def fit(self, features: Floats, targets: Floats) -> Self:
        """Learns targets in [0, 1], (n, k) or (n,)."""
        parameters = {
            "objective": "cross_entropy",
            "learning_rate": 0.05,
            "num_leaves": 15,
            "min_data_in_leaf": 20,
            "feature_fraction": 0.3,
            "lambda_l2": 5.0,
            "max_bin": 63,
            "seed": self.seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "verbose": -1,
        }
        data = lightgbm.Dataset(features, params=parameters, free_raw_data=False).construct()
        self.boosters_ = [
            lightgbm.train(parameters, data.set_label(target), num_boost_round=_TREES)
            for target in targets.reshape(len(targets), -1).T
        ]
        return self

    def predict(self, features: Floats) -> Floats:
        """The expected targets, (n, k)."""
        found = [booster.predict(features, num_threads=1) for booster in self.boosters_]
        return np.column_stack(found)
