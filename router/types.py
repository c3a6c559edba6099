"""The words of Leadline as values: frozen, slotted, keyword-only.

Units stand in the names. Arrays carry their shapes in the docstring, where `a` counts
arms. Nothing here does I/O, reads a clock or draws a random number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from router.conditions import PLAIN, Conditions, Reason
from router.errors import InvalidInput
from router.slo import LATENCY_QUANTILES, Slo

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Strategy(StrEnum):
    """How inference compute is spent on one query."""

    SINGLE = "single"
    CHAIN_OF_THOUGHT = "chain_of_thought"
    SELF_CONSISTENCY = "self_consistency"
    REFINEMENT = "refinement"
    TREE_OF_THOUGHTS = "tree_of_thoughts"
    DYNAMIC = "dynamic"


class Capability(StrEnum):
    """What a query may need of a model."""

    TOOLS = "tools"
    VISION = "vision"
    JSON = "json"


class Thinking(StrEnum):
    """How a model is told how much to think before it answers."""

    EFFORT = "effort"  # in words: low, medium or high
    BUDGET = "budget"  # in tokens


class SloStatus(StrEnum):
    """Whether the chosen arm is predicted to meet the slo."""

    MET = "met"
    BEST_EFFORT = "best_effort"
    NO_SLO = "no_slo"


class PolicySource(StrEnum):
    """Where a decision's policy came from."""

    LEARNED = "learned"
    STATIC = "static"
    IMPORT = "import"


class PolicyState(StrEnum):
    """Where a policy stands in its life."""

    CANDIDATE = "candidate"
    CANARY = "canary"
    ACTIVE = "active"
    PREVIOUS = "previous"
    REJECTED = "rejected"


class Role(StrEnum):
    """What an API key may do; each role may do all that the ones before it may."""

    CALLER = "caller"  # Router
    ADMIN = "admin"  # + Slos of its tenant
    OPERATOR = "operator"  # + Catalog and Policies, which all tenants share


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One way to answer: model x strategy x its parameters.

    `key` names the arm in logs, bundles and requests: `model:strategy`, then the
    parameters in order, as in `gpt-4:self_consistency?base=single&samples=3`.
    Two arms are equal when their keys are.
    """

    model: str
    strategy: str
    params: Mapping[str, Any] = field(default_factory=dict, compare=False, hash=False)
    key: str = field(init=False)

    def __post_init__(self) -> None:
        pairs = "&".join(f"{name}={_plain(self.params[name])}" for name in sorted(self.params))
        head = f"{self.model}:{self.strategy}"
        object.__setattr__(self, "key", f"{head}?{pairs}" if pairs else head)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


MOST_PARAMS = 16
MOST_PARAM = 1e6


def check_arm(arm: Arm) -> None:
    """Raises InvalidInput that names the field unless every part of Leadline can hold the arm.

    Its names are printable, without the marks that divide a key; its parameters are at
    most 16 booleans, short texts and numbers of at most a million. A text that reads as
    JSON keeps the law of what it reads as, since a key does not tell the two apart.
    """
    _check_name(arm.model, "arm.model", 128)
    _check_name(arm.strategy, "arm.strategy", 128)
    if ":" in arm.strategy:
        raise InvalidInput("has a ':', which divides model and strategy", field="arm.strategy")
    if len(arm.params) > MOST_PARAMS:
        raise InvalidInput(f"there are {len(arm.params)}, more than 16", field="arm.params")
    for name, value in arm.params.items():
        _check_name(name, "arm.params", 64)
        _check_param(name, value)


def _check_name(text: str, field: str, most: int) -> None:
    plain = text.isprintable() and text == text.strip() and not set("&=?") & set(text)
    if not plain or not 0 < len(text) <= most:
        raise InvalidInput(
            f"{text!r:.80} is no plain name; use 1 to {most} printable characters but &, = and ?",
            field=field,
        )


def _check_param(name: str, value: Any) -> None:
    if isinstance(value, str):
        _check_name(value, "arm.params", 64)
        value = read_param(value)
    number = isinstance(value, int | float) and abs(value) <= MOST_PARAM
    if not number and not isinstance(value, str):
        raise InvalidInput(
            f"{name!r} must be a boolean, a short text or a number of at most a million",
            field="arm.params",
        )


def read_param(text: str) -> Any:
    """A parameter's value as a key has it: JSON where it is some, or else the text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """An LLM endpoint as the catalog describes it.

    Prices are dollars per million tokens, which is millionths of a dollar per token.
    `cached_input_usd_per_mtok` is the price of input that the provider still has from the
    turn before; None where it gives no discount. `tier` orders models by strength, 0 the
    weakest. `grid_gco2e_per_kwh` is the carbon intensity of the power in its `region`.
    `endpoint` is the base URL of its OpenAI-compatible API, `endpoint_model` the name that
    it goes by there. `thinking` is None for a model that is not told how much to think.
    """

    name: str
    input_usd_per_mtok: float
    output_usd_per_mtok: float
    cached_input_usd_per_mtok: float | None = None
    tier: int = 0
    context_tokens: int = 128_000
    max_output_tokens: int = 4_096
    capabilities: frozenset[Capability] = frozenset()
    energy_wh_per_ktok: float = 0.0
    grid_gco2e_per_kwh: float = 0.0
    region: str = ""
    endpoint: str = ""
    endpoint_model: str = ""
    thinking: Thinking | None = None
    enabled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """The models and the enabled arms over them, at one revision."""

    models: tuple[Model, ...]
    arms: tuple[Arm, ...]
    revision: int = 0

    def model(self, name: str) -> Model:
        """Raises KeyError when no model has the name."""
        for model in self.models:
            if model.name == name:
                return model
        raise KeyError(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What a caller wants answered.

    `text` is what is embedded: the query, or a conversation's messages joined.
    `input_tokens` 0 means: count them with the embedder's tokenizer.
    """

    text: str
    input_tokens: int = 0
    needs: frozenset[Capability] = frozenset()
    needs_context_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What one request asks on top of its slo.

    `compute_budget` from 1 to 100 caps an arm's compute relative to one single pass;
    0 leaves it to the slo. `may_continue` says that the caller is willing to send evidence
    to Continue, so that the first arm is planned with those that may follow.
    """

    max_cost_usd: float | None = None
    max_latency_s: float | None = None
    compute_budget: int = 0
    allowed_arms: frozenset[str] = frozenset()
    excluded_arms: frozenset[str] = frozenset()
    may_continue: bool = False

    def __post_init__(self) -> None:
        for name, value in (
            ("max_cost_usd", self.max_cost_usd),
            ("max_latency_s", self.max_latency_s),
        ):
            if value is not None and not 0 < value < float("inf"):
                raise InvalidInput(f"{value} is not a positive number", field=name)
        if not 0 <= self.compute_budget <= 100:
            raise InvalidInput(
                f"{self.compute_budget} is not from 1 to 100", field="compute_budget"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """Per arm, in the order of the arms: what an attempt is expected to bring.

    Every array has shape (a,). `accuracy_low` and `accuracy_high` bound the central
    90 % interval of the calibrated probability. Latency is NaN where never measured.
    """

    accuracy: Floats
    accuracy_low: Floats
    accuracy_high: Floats
    cost_usd: Floats
    latency_p50_s: Floats
    latency_p95_s: Floats
    latency_p99_s: Floats
    output_tokens: Floats
    energy_wh: Floats

    def latency_s(self, quantile: float) -> Floats:
        """The latency quantile of each arm, in seconds; `quantile` is in LATENCY_QUANTILES."""
        by_quantile = dict(
            zip(
                LATENCY_QUANTILES,
                (self.latency_p50_s, self.latency_p95_s, self.latency_p99_s),
                strict=True,
            )
        )
        return by_quantile[quantile]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The arm that was picked, by its index, with why and how probable it was.

    `feasible` has shape (a,). `propensity` is the exact probability of picking `index`
    given the context, exploration included.
    """

    index: int
    feasible: Mask
    propensity: float
    explored: bool
    slo_status: SloStatus
    reason: str
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What an attempt showed before the truth is known.

    `confidence` is a mean token log-probability (<= 0) or an agreement between samples
    in [0, 1], as the arm's strategy gives it. `time_to_first_token_s` is that of the
    attempt's first call.
    """

    confidence: float | None = None
    verifier_score: float | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    latency_s: float | None = None
    time_to_first_token_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One routing decision, with all that made it; predictions follow the order of `arms`.

    `novelty` is how unlike the training queries this one is: the share of those that were
    less so, None where the policy does not say. `gco2e` are the grams that the picked arm
    is expected to emit.
    """

    decision_id: UUID
    occurred_at: datetime
    arms: tuple[Arm, ...]
    predictions: Predictions
    choice: Choice
    difficulty: float
    input_tokens: int
    slo: Slo
    policy_version: int
    policy_source: PolicySource
    should_continue: bool
    conditions: Conditions = PLAIN
    novelty: float | None = None
    gco2e: float = 0.0

    @property
    def arm(self) -> Arm:
        """The arm that was picked."""
        return self.arms[self.choice.index]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What is known of an attempt afterwards. `score` is in [0, 1]."""

    outcome_id: UUID
    decision_id: UUID
    occurred_at: datetime
    attempt: int = 0
    score: float | None = None
    source: str = "unspecified"
    cost_usd: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    latency_s: float | None = None
    confidence: float | None = None
    error: str = ""
    time_to_first_token_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who calls: the tenant, the role, and the key's public id for the audit log."""

    tenant_id: UUID
    tenant: str
    role: Role
    key_id: str

    def may(self, role: Role) -> bool:
        """Whether this identity holds `role` or one above it."""
        order = list(Role)
        return order.index(self.role) >= order.index(role)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRecord:
    """A registered policy without its bundle's bytes.

    `share` is that of the traffic which a canary decides, 0 for one that decides beside the
    active policy, unserved; `canary` is what has been found of it so far, None before.
    """

    version: int
    state: PolicyState
    created_at: datetime
    promoted_at: datetime | None
    bundle_sha256: str
    bundle_bytes: int
    summary: Mapping[str, Any]
    share: float | None = None
    canary: Mapping[str, Any] | None = None
