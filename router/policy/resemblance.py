"""How alike arms are before anything was learnt of one: by model, price, strategy, compute.

What is known of some arms tells of another by a Gaussian process over arms (kriging): the
more two are alike, the more one's surprise is the other's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from router.policy.arms import compute
from router.types import Arm, Floats, Model

NOISE = 0.1
"""The variance of log-odds in which two arms differ that are alike in everything else."""

_COMMON, _MODEL, _PRICE, _STRATEGY = 0.5, 0.3, 0.4, 0.05
_PRICE_LENGTH, _COMPUTE_LENGTH = 2.0, 1.0
_LEAST_USD_PER_MTOK = 1e-2
_OWN_NOISE = 0.3
_LEAST_WEIGHT = 1e-9


def covariance(arms: Sequence[Arm], models: Sequence[Model], *, common: float = _COMMON) -> Floats:
    """What arms' log-odds, beyond their priors, vary in together, (a, a); a model per arm.

    The sum of a share that is common to all, one of the same model, one of prices within
    about e^2 of each other, and one of the same strategy at a compute within about e.
    """
    names = np.array([model.name for model in models])
    strategies = np.array([arm.strategy for arm in arms])
    prices = np.array([_log_price(model) for model in models])
    computes = np.array([math.log(compute(arm)) for arm in arms])
    return np.asarray(
        common
        + _MODEL * np.equal.outer(names, names)
        + _PRICE * _near(prices, _PRICE_LENGTH)
        + _STRATEGY * np.equal.outer(strategies, strategies) * _near(computes, _COMPUTE_LENGTH)
    )


def borrowed(arm: Arm, model: Model, trained: Sequence[Arm], models: Sequence[Model]) -> Floats:
    """How much an arm has of what is each trained arm's own, beyond what all share; (a,)."""
    alike = covariance([*trained, arm], [*models, model], common=0.0)
    own = alike[:-1, :-1] + _OWN_NOISE * np.eye(len(trained))
    return np.asarray(np.linalg.solve(own, alike[:-1, -1]))


def tier_by_price(model: Model, others: Sequence[Model]) -> int:
    """The tier to expect of a model that nobody ranked: the mean of those near it in price.

    A model a factor of e away in price counts three fifths of one of the same price.
    """
    prices = np.array([_log_price(each) for each in others])
    price = np.clip(_log_price(model), prices.min(), prices.max())
    near = _near(np.append(prices, price), 1.0)[-1, :-1] + _LEAST_WEIGHT
    return round(float(np.average([each.tier for each in others], weights=near)))


def _log_price(model: Model) -> float:
    price = model.input_usd_per_mtok + model.output_usd_per_mtok
    return math.log(max(price, _LEAST_USD_PER_MTOK))


def _near(values: Floats, length: float) -> Floats:
    away = np.subtract.outer(values, values) / length
    return np.asarray(np.exp(-(away**2) / 2.0))
