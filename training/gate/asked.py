"""What an slo is judged by at the gate: the value of a correct answer, and its best constant."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from router.errors import InvalidInput
from router.policy.policy import Policy
from router.slo import Slo
from training.log.dataset import Dataset


@dataclass(frozen=True, kw_only=True)
class Asked:
    """An slo with what it compares by: the value of a correct answer, and its best constant."""

    slo: Slo
    value_usd: float
    constant: str


def asked(slo: Slo, policy: Policy, train: Dataset) -> Asked:
    """An slo's value of a correct answer, by a policy's trade-off, and its best constant.

    The policy is the incumbent, or the candidate where nothing learnt serves yet; the value
    is then the same for all contestants. Constants are judged on the training side. Raises
    InvalidInput when the policy has learnt no trade-off that an slo without a value needs,
    and when no arm that the slo permits was seen.
    """
    value_usd = _value(slo, policy)
    return Asked(slo=slo, value_usd=value_usd, constant=best_constant(train, slo, value_usd))


def _value(slo: Slo, policy: Policy) -> float:
    if slo.accuracy_value_usd is not None:
        return slo.accuracy_value_usd
    if policy.tradeoff is None:
        raise InvalidInput("it has learnt no trade-off; name a trained one", field="policy")
    floor = slo.min_accuracy
    if floor is None and slo.min_relative_accuracy is not None:
        known = policy.mean_accuracy.get(slo.reference_arm, 1.0)
        floor = slo.min_relative_accuracy * known
    if floor is None:
        floor = policy.tradeoff.best_constant_accuracy
    return float(policy.tradeoff.value_for(floor)[0])


def best_constant(train: Dataset, slo: Slo, value_usd: float) -> str:
    """The key of the permitted arm with the greatest mean value x score - cost in training."""
    found = {
        arm.key: worth
        for place, arm in enumerate(train.arms)
        if slo.permits(arm.model, arm.strategy)
        and not np.isnan(worth := _worth(train, place, value_usd))
    }
    if not found:
        raise InvalidInput("no arm that the slo permits has scores and costs", field="slo")
    return max(sorted(found), key=lambda key: found[key])


def _worth(train: Dataset, arm: int, value_usd: float) -> float:
    """The mean utility of an arm; NaN where no row has both figures."""
    rows = train.rows.take(train.rows.arm == arm)
    utility = value_usd * rows.score - rows.cost_usd
    known = ~np.isnan(utility)
    return float(np.average(utility[known], weights=rows.weight[known])) if known.any() else np.nan
