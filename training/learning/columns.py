"""The columns of (query, arm) rows: the text's features, the signals, the arm's descriptors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np

from router.policy.arms import describe
from router.policy.features import TEXT_FEATURES
from router.types import Arm, Floats, Model
from training.learning.contexts import Contexts
from training.learning.signals import SignalModel
from training.log.dataset import Indices, Rows

_SHRINKAGE_ROWS = 20.0
_PART_CELLS = 65_536
_TEXT = len(TEXT_FEATURES)


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


def parts(count: int, arms: int) -> Iterator[slice]:
    """Slices of so many contexts whose rows of all arms fit into some megabytes."""
    step = max(_PART_CELLS // max(arms, 1), 1)
    for start in range(0, count, step):
        yield slice(start, start + step)
