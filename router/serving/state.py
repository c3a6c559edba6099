"""What a worker decides with: one immutable value, swapped whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from router.policy.policy import Policy
from router.serving.rows import arm_message
from router.slo import AccuracyScope, Slo
from router.types import Catalog
from router.v1 import catalog_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The policy, the catalog that it is bound to, and the catalog's arms on the wire."""

    policy: Policy
    catalog: Catalog
    arms: Mapping[str, catalog_pb2.Arm]
    keys: tuple[str, ...]
    _values: dict[float | None, float] = field(default_factory=dict)

    @classmethod
    def of(cls, policy: Policy, catalog: Catalog) -> State:
        """The state of a policy that is bound to this catalog."""
        arms = {arm.key: arm_message(arm) for arm in policy.arms}
        return cls(policy=policy, catalog=catalog, arms=arms, keys=tuple(arms))

    def value_usd(self, slo: Slo) -> float | None:
        """The value of a correct answer that ranks arms for the slo; None ranks by cost."""
        if slo.accuracy_value_usd is not None:
            return slo.accuracy_value_usd
        tradeoff, floor = self.policy.tradeoff, slo.min_accuracy
        if tradeoff is None or (
            floor is not None and slo.accuracy_scope is AccuracyScope.PER_QUERY
        ):
            return None
        if floor not in self._values:
            if len(self._values) > 1_000:
                self._values.clear()
            best = tradeoff.best_constant_accuracy
            self._values[floor] = tradeoff.value_for(best if floor is None else floor)[0]
        return self._values[floor]


@dataclass(slots=True)
class Current:
    """The one reference to the state: the reload thread sets it, a request reads it once."""

    state: State
