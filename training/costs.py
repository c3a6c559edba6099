"""What an attempt costs and how many tokens it writes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from router.policy.priors import prior
from router.types import Arm, Floats, Model
from training.dataset import Rows
from training.loglinear import LogLinear, residuals

LEAST_COST_USD = 1e-9
LEAST_TOKENS = 1.0


def cost_model() -> LogLinear:
    """The untrained model of log cost in dollars."""
    return LogLinear(floor=LEAST_COST_USD)


def token_model() -> LogLinear:
    """The untrained model of log output tokens."""
    return LogLinear(floor=LEAST_TOKENS)


def smearing(predicted: Floats, rows: Rows, arms: int) -> Floats:
    """Duan's factor per arm (a,): the mean of exp(residual), out of fold; 1 where unknown.

    It turns the exponential of a mean logarithm into a mean cost (Duan 1983).
    """
    logs = cost_model().logs(rows.cost_usd)
    factors = np.ones(arms)
    for arm in range(arms):
        errors, mine = residuals(predicted, logs, rows, arm)
        if len(errors):
            factors[arm] = np.average(np.exp(errors), weights=rows.weight[mine])
    return factors


def prior_logs(arms: Sequence[Arm], models: Sequence[Model]) -> Floats:
    """The logarithm of each arm's published prior cost, shape (a,)."""
    by_name = {model.name: model for model in models}
    costs = [prior(arm, by_name[arm.model]).cost_usd for arm in arms]
    return np.asarray(np.log(np.maximum(costs, LEAST_COST_USD)))


def with_priors(weights: Floats, logs: Floats) -> Floats:
    """The cost weights (a, 1 + f) with the prior's logarithm where the log never had a cost."""
    filled = weights.copy()
    unknown = np.isnan(weights[:, 0])
    filled[unknown] = 0.0
    filled[unknown, 0] = logs[unknown]
    return filled
