"""The accuracy model: signals out of fold, stacked, then one LightGBM over (query, arm) rows.

Stacked generalisation (Wolpert 1992): what a row's label could leak into is fitted on the
other folds. The trees start from the stacked signals' log-odds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import lightgbm
import numpy as np

from router.policy.arms import ARM_FEATURES, describe
from router.policy.features import ROW_FEATURES, TEXT_FEATURES
from router.policy.signals import SIGNALS, SignalArrays
from router.types import Arm, Floats, Model
from training.contexts import Contexts
from training.dataset import Indices, Rows
from training.logistic import logistic
from training.recipe import WHOLE, Recipe
from training.signals import SignalModel

THREADS = 1
"""One thread: with two, OpenMP spins for minutes where a server keeps the cores busy."""
MOST_TREES = 64
_LEAVES = 7
_SHRINKAGE_ROWS = 20.0
_LEAST_SCORE = 1e-3
_PART_CELLS = 65_536
_STACKED_ROWS = 100_000
_STACKING_PENALTY_INVERSE = 0.1


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


class Base:
    """What is learnt of arms straight from rows: their descriptors and their signals."""

    def __init__(self, *, arms: Sequence[Arm], models: Sequence[Model], seed: int) -> None:
        self.table = ArmTable(arms, models)
        self.signals = SignalModel(arms=len(arms), seed=seed)

    def fit(self, contexts: Contexts, rows: Rows) -> Self:
        """Learns from the rows alone; contexts are indexed by the rows' queries."""
        self.table.fit(rows)
        self.signals.fit(contexts, rows.unweighted())
        return self

    def rows(self, contexts: Contexts, arm: Indices | None = None) -> Floats:
        """The columns ROW_FEATURES of n contexts and each one's arm (n,), or all arms."""
        signals, described = self.signals.signals(contexts), self.table.descriptors_
        text = contexts.values[:, :_TEXT]
        if arm is not None:
            return np.hstack((text, signals[np.arange(len(arm)), arm], described[arm]))
        arms = len(described)
        text = np.repeat(text, arms, axis=0)
        flat = signals.reshape(len(contexts) * arms, -1)
        return np.hstack((text, flat, np.tile(described, (len(contexts), 1))))


_TEXT = len(TEXT_FEATURES)
_SIGNALS = slice(_TEXT, _TEXT + len(SIGNALS))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Folded:
    """Contexts, the queries that take part, and the fold (q,) of each."""

    contexts: Contexts
    queries: Indices
    fold: Indices

    @property
    def numbers(self) -> list[int]:
        """The folds that some query is in."""
        return [int(number) for number in np.unique(self.fold[self.queries])]

    def inside(self, number: int) -> Indices:
        """The queries of a fold."""
        return np.asarray(self.queries[self.fold[self.queries] == number])


def _loss(raw: Floats, rows: Rows) -> float:
    """The log loss of log-odds (q, a) on the rows, each counted by its weight."""
    odds = raw[rows.query, rows.arm]
    losses = np.logaddexp(0.0, odds) - rows.score * odds
    return float(np.average(losses, weights=rows.weight))


class AccuracyModel:
    """Predicts the log-odds of a correct answer from a context and an arm.

    After `fit`, `base_` is learnt from all rows, and `out_of_fold_` (q, a) are the log-odds
    of the rows' queries as what was learnt of the other folds has them, NaN elsewhere.
    Where the log has propensities, `weighted_` tells whether the head that was fitted by
    them has the lesser out-of-fold loss by them; else they add variance and nothing more.
    """

    def __init__(
        self, *, arms: Sequence[Arm], models: Sequence[Model], seed: int, recipe: Recipe = WHOLE
    ) -> None:
        self.arms = arms
        self.models = models
        self.seed = seed
        self.recipe = recipe

    def fit(self, contexts: Contexts, rows: Rows, fold: Indices) -> Self:
        """Learns from the scored rows; contexts and fold (q,) are per query.

        No fold may hold every scored row.
        """
        scored = rows.take(~np.isnan(rows.score))
        folded = _Folded(contexts=contexts, queries=np.unique(rows.query), fold=fold)
        bases = {
            number: self._base(contexts, scored.take(fold[scored.query] != number))
            for number in folded.numbers
        }
        columns = self._columns(contexts, scored, fold[scored.query], bases)
        ways = [scored] if scored.even else [scored, scored.unweighted()]
        found = [self._out_of_fold(folded, columns, way, bases) for way in ways]
        best = int(np.argmin([_loss(each, scored) for each in found]))
        self.weighted_, self.out_of_fold_ = best == 0, found[best]
        self.base_, self.head_ = self._base(contexts, scored), self._head(columns, ways[best])
        return self

    def _out_of_fold(
        self, folded: _Folded, columns: Floats, rows: Rows, bases: dict[int, Base]
    ) -> Floats:
        """The log-odds (q, a) of each fold by a head fitted to the columns of the others."""
        found = np.full((len(folded.contexts), len(self.arms)), np.nan)
        for number, base in bases.items():
            others = folded.fold[rows.query] != number
            head = self._head(columns[others], rows.take(others))
            inside = folded.inside(number)
            found[inside] = head.predict(base, folded.contexts.take(inside))
        return found

    def predict(self, contexts: Contexts) -> Floats:
        """The log-odds of every arm for n contexts, shape (n, a)."""
        return self.head_.predict(self.base_, contexts)

    def arrays(self) -> SignalArrays:
        """What serving reads of the signals and their stack."""
        head = self.head_
        arrays = self.base_.signals.arrays_
        return replace(arrays, weights=head.weights_, intercepts=head.intercepts_)

    def _base(self, contexts: Contexts, rows: Rows) -> Base:
        return Base(arms=self.arms, models=self.models, seed=self.seed).fit(contexts, rows)

    def _columns(
        self, contexts: Contexts, rows: Rows, place: Indices, bases: dict[int, Base]
    ) -> Floats:
        """The columns of each row, made by the base that has not seen its fold."""
        columns = np.empty((len(rows), len(ROW_FEATURES)))
        for number, base in bases.items():
            inside = np.flatnonzero(place == number)
            for part in _parts(len(inside), len(self.arms)):
                mine = rows.take(inside[part])
                columns[inside[part]] = base.rows(contexts.take(mine.query), mine.arm)
        return columns

    def _head(self, columns: Floats, rows: Rows) -> Head:
        return Head(arms=len(self.arms), seed=self.seed, recipe=self.recipe).fit(columns, rows)


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
        parameters = self._parameters(len(rows))
        data = lightgbm.Dataset(
            columns,
            label=np.clip(rows.score, _LEAST_SCORE, 1.0 - _LEAST_SCORE),
            weight=rows.weight,
            init_score=columns[:, _SIGNALS] @ self.weights_ + self.intercepts_[rows.arm],
            feature_name=list(ROW_FEATURES),
            categorical_feature=[ARM_FEATURES[0]],
            params=parameters,
        )
        trees = int(np.clip(len(rows) // 40, 16, MOST_TREES)) if self.recipe.trees else 1
        self.booster_ = lightgbm.train(parameters, data, num_boost_round=trees)
        return self

    def predict(self, base: Base, contexts: Contexts) -> Floats:
        """The log-odds (n, a) of contexts, whose columns the base makes."""
        found = np.empty((len(contexts), self.arms))
        for part in _parts(len(contexts), self.arms):
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
        """Small trees: the stack has said most. The same rows give the same model, bit for bit."""
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


_RISING = "arm_log_compute"


def _parts(count: int, arms: int) -> Iterator[slice]:
    step = max(_PART_CELLS // max(arms, 1), 1)
    for start in range(0, count, step):
        yield slice(start, start + step)
