"""The accuracy model: signals out of fold, stacked, then one LightGBM over (query, arm) rows.

Stacked generalisation (Wolpert 1992): what a row's label could leak into is fitted on the
other folds. The trees start from the stacked signals' log-odds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from router.policy.features import ROW_FEATURES
from router.policy.signals import SignalArrays
from router.types import Arm, Floats, Model
from training.learning.columns import Base, parts
from training.learning.contexts import Contexts
from training.learning.head import Head
from training.learning.recipe import WHOLE, Recipe
from training.log.dataset import Indices, Rows


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


def _remoteness(folded: _Folded, bases: dict[int, Base]) -> Floats:
    """How remote queries are of what was learnt of the other folds, (q, 2); NaN elsewhere."""
    found = np.full((len(folded.contexts), 2), np.nan)
    for number, base in bases.items():
        inside = folded.inside(number)
        for part in parts(len(inside), len(base.signals.arrays_.landmarks)):
            found[inside[part]] = base.signals.remoteness(folded.contexts.take(inside[part]))
    return found


class AccuracyModel:
    """Predicts the log-odds of a correct answer from a context and an arm.

    After `fit`, `base_` is learnt from all rows, and `out_of_fold_` (q, a) are the log-odds
    of the rows' queries as what was learnt of the other folds has them, NaN elsewhere.
    Where the log has propensities, `weighted_` tells whether the head that was fitted by
    them has the lesser out-of-fold loss by them; else they add variance and nothing more.
    `remoteness_` (q, 2) are its parts, out of fold as well, of `router.policy.novelty`.
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
        self.remoteness_ = _remoteness(folded, bases)
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
            for part in parts(len(inside), len(self.arms)):
                mine = rows.take(inside[part])
                columns[inside[part]] = base.rows(contexts.take(mine.query), mine.arm)
        return columns

    def _head(self, columns: Floats, rows: Rows) -> Head:
        return Head(arms=len(self.arms), seed=self.seed, recipe=self.recipe).fit(columns, rows)
