"""What a worker decides with: one immutable value, swapped whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from router.conditions import Promise
from router.policy.policy import Policy
from router.policy.worth import worth
from router.serving.rows import arm_message
from router.slo import Slo
from router.types import Catalog
from router.v1 import catalog_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The policy, the catalog that it is bound to, and the catalog's arms on the wire."""

    policy: Policy
    catalog: Catalog
    arms: Mapping[str, catalog_pb2.Arm]
    keys: tuple[str, ...]

    @classmethod
    def of(cls, policy: Policy, catalog: Catalog) -> State:
        """The state of a policy that is bound to this catalog."""
        arms = {arm.key: arm_message(arm) for arm in policy.arms}
        return cls(policy=policy, catalog=catalog, arms=arms, keys=tuple(arms))

    def value_usd(self, slo: Slo, promise: Promise | None) -> float | None:
        """The value of a correct answer that ranks arms for the slo; None ranks by cost."""
        known = worth(slo, self.policy.tradeoff, promise, self.policy.mean_accuracy)
        return known.value_usd


@dataclass(slots=True)
class Current:
    """The one reference to the state: the reload thread sets it, a request reads it once."""

    state: State
