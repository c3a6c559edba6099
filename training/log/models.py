"""Models as the log shows them, for when no catalog describes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.optimize import nnls

from router.policy.arms import compute
from router.types import Floats, Mask, Model
from training.log.dataset import Dataset, Indices

TYPICAL_TOKENS = (200.0, 150.0)
"""Input and output tokens of one single pass, where the log counts none."""


def described(dataset: Dataset) -> tuple[Model, ...]:
    """A model per name in the log: prices from its costs, tier from its accuracy, then cost."""
    names = sorted({arm.model for arm in dataset.arms})
    models = [_priced(dataset, name) for name in names]
    strength = [_strength(dataset, model) for model in models]
    ranked = sorted(range(len(models)), key=strength.__getitem__)
    tiers = {index: tier for tier, index in enumerate(ranked)}
    return tuple(replace(model, tier=tiers[index]) for index, model in enumerate(models))


def known(found: Sequence[Model], catalog: Sequence[Model] | None) -> tuple[Model, ...]:
    """The models of the log, each as the catalog describes it where it does."""
    by_name = {model.name: model for model in catalog or ()}
    return tuple(by_name.get(model.name, model) for model in found)


def _of(dataset: Dataset, name: str) -> Mask:
    arms = np.array([arm.model == name for arm in dataset.arms])
    return np.asarray(arms[dataset.rows.arm])


def _strength(dataset: Dataset, model: Model) -> tuple[float, float, str]:
    rows = dataset.rows.take(_of(dataset, model.name) & dataset.scored)
    accuracy = float(np.average(rows.score, weights=rows.weight)) if len(rows) else -1.0
    return accuracy, model.input_usd_per_mtok + model.output_usd_per_mtok, model.name


def _priced(dataset: Dataset, name: str) -> Model:
    rows = dataset.rows.take(_of(dataset, name) & ~np.isnan(dataset.rows.cost_usd))
    counted = ~np.isnan(rows.input_tokens) & ~np.isnan(rows.output_tokens)
    if counted.any():
        spent = np.column_stack((rows.input_tokens[counted], rows.output_tokens[counted]))
        prices = _prices(spent, rows.cost_usd[counted])
    else:
        prices = _typical_prices(dataset, rows.arm, rows.cost_usd)
    return Model(name=name, input_usd_per_mtok=prices[0], output_usd_per_mtok=prices[1])


def _prices(tokens: Floats, cost_usd: Floats) -> tuple[float, float]:
    """Non-negative least squares of the cost on the tokens, in dollars per million."""
    scale = max(float(tokens.max()), 1.0)
    solution, _ = nnls(tokens / scale, cost_usd * 1e6 / scale)
    return float(solution[0]), float(solution[1])


def _typical_prices(dataset: Dataset, arm: Indices, cost_usd: Floats) -> tuple[float, float]:
    """One price for input and output alike, from the mean cost of one single pass."""
    if not len(cost_usd):
        return 0.0, 0.0
    passes = np.array([compute(each) for each in dataset.arms])[arm]
    price = float(np.mean(cost_usd / passes)) * 1e6 / sum(TYPICAL_TOKENS)
    return price, price
