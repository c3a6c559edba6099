"""What holds around a query when it is decided, and the reasons that a decision gives.

A decision is a function of the policy, the query, the slo, the request's bounds and these
conditions; all of them are logged, so that it can be derived again, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self


class MonitorState(StrEnum):
    """What the outcomes of an slo say of its floor."""

    HOLDING = "holding"
    AT_RISK = "at_risk"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What is certified of an slo's floor under the policy that serves.

    `value_usd` is the value of a correct answer that a decision maximises with; None where
    nothing is certified, so that the decision takes the safe side. `fallen` are models that
    outcomes show to be less accurate than they were measured.
    """

    certificate_id: str
    value_usd: float | None
    monitor: MonitorState = MonitorState.HOLDING
    fallen: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """How a model's backend does now.

    `slowdown` is the ratio of recent latency to what is predicted; where first tokens are
    reported it is that of what comes after them, and `first_token_s` and
    `usual_first_token_s` are how long a call's takes now and otherwise, with the spread of
    its logarithm. They are 0 where nothing is known of them. One that is not `available` is
    in no feasible set, but for probes.
    """

    slowdown: float = 1.0
    available: bool = True
    first_token_s: float = 0.0
    usual_first_token_s: float = 0.0
    first_token_spread: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Where a conversation stands: the model that answered last, and what it has cached."""

    model: str
    cached_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """All that a decision depends on beyond the policy, the query, the slo and the bounds.

    `backends` names only models that do not do as predicted. `cost_multiplier`, at least 1,
    is what a dollar counts for while budgets are paced; `budget_left_usd` is what this
    worker may still spend of the tightest budget, None without one. `mean_cost_usd` is what
    the slo's decisions are expected to cost on average, before exploration; None where that
    is not known, or matters to nothing.
    """

    promise: Promise | None = None
    backends: Mapping[str, Backend] = field(default_factory=dict)
    cost_multiplier: float = 1.0
    budget_left_usd: float | None = None
    conversation: Conversation | None = None
    mean_cost_usd: float | None = None

    def to_mapping(self) -> dict[str, Any]:
        """What is out of the ordinary, as plain JSON values."""
        unusual = [name for name in _USUAL if getattr(self, name) != _USUAL[name]]
        return {name: _plain(getattr(self, name)) for name in unusual}

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any] | None) -> Self:
        """Reads what `to_mapping` wrote; None is nothing out of the ordinary."""
        known = dict(value or {})
        if "promise" in known:
            known["promise"] = _promise(known["promise"])
        if "backends" in known:
            found = known["backends"].items()
            known["backends"] = {model: Backend(**backend) for model, backend in found}
        if "conversation" in known:
            known["conversation"] = Conversation(**known["conversation"])
        return cls(**known)


def _promise(value: Mapping[str, Any]) -> Promise:
    monitor, fallen = MonitorState(value["monitor"]), tuple(value.get("fallen", ()))
    return Promise(**{**value, "monitor": monitor, "fallen": fallen})


def _plain(value: Any) -> Any:
    """A value's fields by name, also of those in a mapping; `asdict` takes ten times as long."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    names = getattr(value, "__dataclass_fields__", None)
    return value if names is None else {name: getattr(value, name) for name in names}


PLAIN = Conditions()
"""Nothing out of the ordinary: the offline policy's conditions."""

_USUAL = {name: getattr(PLAIN, name) for name in Conditions.__slots__}


class Limit(StrEnum):
    """What can leave arms out of a decision, or move its choice."""

    CAPABILITY = "capability"
    CONTEXT = "context"
    COMPUTE = "compute_budget"
    NAMED = "named_arms"
    SLO_ARMS = "slo_arms"
    REGION = "region"
    BACKEND = "backend"
    COST = "cost"
    LATENCY = "latency"
    ACCURACY = "accuracy"
    ENERGY = "energy"
    BUDGET = "budget"
    CERTIFICATE = "certificate"
    MONITOR = "monitor"
    NOVELTY = "novelty"
    CONVERSATION = "conversation"
    GUARD = "guard"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One machine-readable reason of a decision.

    `left_out` counts the arms that the limit leaves out, whatever the others do; `bound` is
    the limit's number in its own unit, None where it has none. `binding` says that an arm
    which this limit alone leaves out ranks above the one that was picked.
    """

    limit: Limit
    left_out: int = 0
    bound: float | None = None
    binding: bool = False
    note: str = ""

    def to_mapping(self) -> dict[str, Any]:
        """What it says, as plain JSON values, without what it leaves unsaid."""
        plain = _plain(self)
        return {name: value for name, value in plain.items() if value or name == "limit"}
