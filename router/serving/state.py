"""What a worker decides with: one immutable value, swapped whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from uuid import UUID

from router.conditions import Promise
from router.policy.canary import place_of
from router.policy.policy import Policy
from router.policy.worth import worth
from router.serving.wire import arm_message
from router.slo import Slo
from router.types import Catalog
from router.v1 import catalog_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The policy, the catalog that it is bound to, and the catalog's arms on the wire.

    `canary` is the state of the policy that decides for a `share` of the units instead.
    """

    policy: Policy
    catalog: Catalog
    arms: Mapping[str, catalog_pb2.Arm]
    keys: tuple[str, ...]
    canary: State | None = None
    share: float = 0.0

    @classmethod
    def of(cls, policy: Policy, catalog: Catalog) -> State:
        """The state of a policy that is bound to this catalog."""
        arms = {arm.key: arm_message(arm) for arm in policy.arms}
        return cls(policy=policy, catalog=catalog, arms=arms, keys=tuple(arms))

    def beside(self, canary: Policy | None, share: float) -> State:
        """The same with another canary, bound to the same catalog, or with none."""
        tried = None if canary is None else replace(self, policy=canary, canary=None, share=0.0)
        return replace(self, canary=tried, share=share)

    def side(self, tenant_id: UUID, unit: str) -> State:
        """The one that decides for a unit; see `place_of`."""
        canary = self.canary
        if canary is None:
            return self
        place = place_of(canary.policy.version, tenant_id, unit)
        return canary if place < self.share else self

    def that_decided(self, policy_version: int) -> State:
        """The one of that policy, else the active one's."""
        canary = self.canary
        if canary is not None and canary.policy.version == policy_version:
            return canary
        return self

    def value_usd(self, slo: Slo, promise: Promise | None) -> float | None:
        """The value of a correct answer that ranks arms for the slo; None ranks by cost."""
        known = worth(slo, self.policy.tradeoff, promise, self.policy.mean_accuracy)
        return known.value_usd


@dataclass(slots=True)
class Current:
    """The one reference to the state: the reload thread sets it, a request reads it once."""

    state: State
