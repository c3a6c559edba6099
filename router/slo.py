"""The slo: a tenant's versioned objective, and how it is read from JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from itertools import pairwise
from typing import Any, Self

from router.errors import InvalidInput

LATENCY_QUANTILES = (0.5, 0.95, 0.99)
LONGEST_TEXT = 2_000
DEFAULT_SLO = "default"
"""The name that a request without one goes by."""


class AccuracyScope(StrEnum):
    """Whether an accuracy floor holds for the mean over queries or for each query."""

    AVERAGE = "average"
    PER_QUERY = "per_query"


class OnInfeasible(StrEnum):
    """What a decision does when no arm meets the slo."""

    BEST_EFFORT = "best_effort"
    CHEAPEST = "cheapest"
    REJECT = "reject"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """A tenant's objective for the decisions that name it.

    `min_accuracy` is a floor in (0, 1] on the mean or on each query, by `accuracy_scope`;
    `min_relative_accuracy` is one on the mean, as a share of what the arm `reference_arm`
    reaches. `max_latency_s` bounds the `latency_quantile` of an arm's latency.
    With `accuracy_value_usd` and no floor, a decision maximises value x accuracy - cost,
    where `usd_per_kgco2e` adds a price of emissions to every cost. Budgets cap what the
    slo's decisions may cost in a calendar hour, day and month (UTC). `safe_arm` is taken
    where the policy is not to be relied on: for queries unlike those that it has learnt
    from, and while the floor is broken; without one it is the most accurate permitted arm.
    `exploration_rate` of the decisions explore; with an `exploration_cost_share` they do so
    where it tells most, and add at most that share to the expected cost. With `guarded`,
    each query is also decided without its first and without its last quarter, and the
    cheapest of those arms is taken.
    """

    name: str = DEFAULT_SLO
    version: int = 0
    min_accuracy: float | None = None
    min_relative_accuracy: float | None = None
    reference_arm: str = ""
    accuracy_scope: AccuracyScope = AccuracyScope.AVERAGE
    confidence: float = 0.95
    max_latency_s: float | None = None
    latency_quantile: float = 0.95
    max_cost_usd: float | None = None
    budget_usd_per_hour: float | None = None
    budget_usd_per_day: float | None = None
    budget_usd_per_month: float | None = None
    max_energy_wh: float | None = None
    usd_per_kgco2e: float = 0.0
    accuracy_value_usd: float | None = None
    allowed_models: tuple[str, ...] = ()
    excluded_models: tuple[str, ...] = ()
    allowed_regions: tuple[str, ...] = ()
    excluded_regions: tuple[str, ...] = ()
    allowed_strategies: tuple[str, ...] = ()
    excluded_strategies: tuple[str, ...] = ()
    safe_arm: str = ""
    exploration_rate: float = 0.0
    exploration_cost_share: float | None = None
    guarded: bool = False
    on_infeasible: OnInfeasible = OnInfeasible.BEST_EFFORT

    def __post_init__(self) -> None:
        _refuse(list(self._problems()))

    @property
    def has_floor(self) -> bool:
        """Whether it sets a floor on accuracy."""
        return self.min_accuracy is not None or self.min_relative_accuracy is not None

    @property
    def has_directed(self) -> bool:
        """Whether its decisions explore where that tells most, within a share of their cost."""
        return self.exploration_cost_share is not None and self.exploration_rate > 0.0

    @property
    def has_budgets(self) -> bool:
        """Whether any budget is set; asked at every decision."""
        return not (
            self.budget_usd_per_hour is None
            and self.budget_usd_per_day is None
            and self.budget_usd_per_month is None
        )

    @property
    def budgets_usd(self) -> dict[str, float]:
        """The budgets that are set, by period."""
        named = {
            "hour": self.budget_usd_per_hour,
            "day": self.budget_usd_per_day,
            "month": self.budget_usd_per_month,
        }
        return {period: budget for period, budget in named.items() if budget is not None}

    def permits(self, model: str, strategy: str) -> bool:
        """Whether its models and strategies leave an arm of these; regions are not asked."""
        return (
            (not self.allowed_models or model in self.allowed_models)
            and model not in self.excluded_models
            and (not self.allowed_strategies or strategy in self.allowed_strategies)
            and strategy not in self.excluded_strategies
        )

    def _problems(self) -> Iterator[tuple[str, str]]:
        """Every field that is wrong, and what is wrong with it."""
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                yield name, f"{value} is not between {low} and {high}"
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                yield name, f"{value} is not a positive number"
        if not 0 <= self.usd_per_kgco2e < math.inf:
            yield "usd_per_kgco2e", f"{self.usd_per_kgco2e} is not a number from 0 up"
        if self.latency_quantile not in LATENCY_QUANTILES:
            yield "latency_quantile", f"{self.latency_quantile} is not one of {LATENCY_QUANTILES}"
        yield from self._contradictions()

    def _contradictions(self) -> Iterator[tuple[str, str]]:
        """Fields that do not go together."""
        relative = self.min_relative_accuracy is not None
        if self.has_floor and self.accuracy_value_usd is not None:
            yield "accuracy_value_usd", "set either min_accuracy or accuracy_value_usd, not both"
        if relative and self.min_accuracy is not None:
            yield "min_relative_accuracy", "set either it or min_accuracy, not both"
        if relative and self.accuracy_scope is AccuracyScope.PER_QUERY:
            yield "accuracy_scope", "a relative floor holds on average; leave out per_query"
        if relative != bool(self.reference_arm):
            yield "reference_arm", "set it and min_relative_accuracy together"
        yield from self._excesses()

    def _excesses(self) -> Iterator[tuple[str, str]]:
        """Lists, arms and budgets of which one leaves the other out."""
        for what in ("models", "regions", "strategies"):
            allowed, excluded = getattr(self, f"allowed_{what}"), getattr(self, f"excluded_{what}")
            if both := set(allowed) & set(excluded):
                yield f"excluded_{what}", f"{sorted(both)[:3]} are also allowed"
        if self.safe_arm and not self.permits(*_parts(self.safe_arm)):
            yield "safe_arm", "the slo's own models or strategies leave it out"
        budgets = list(self.budgets_usd.items())
        for (short, less), (long, more) in pairwise(budgets):
            if less > more:
                yield f"budget_usd_per_{short}", f"{less} is more than that of the {long}, {more}"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Raises InvalidInput that names the key which is unknown or has a wrong value."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"not JSON ({error})", field="slo") from None
        return cls.from_mapping(value)

    @classmethod
    def from_mapping(cls, value: object) -> Self:
        """As `from_json`, from a decoded object; null leaves a key at its default."""
        if not isinstance(value, Mapping):
            raise InvalidInput("must be a JSON object", field="slo")
        read, problems = {}, []
        for key, item in value.items():
            try:
                read[key] = _read(key, item)
            except (TypeError, ValueError, OverflowError) as error:
                problems.append((f"slo.{key}", str(error)))
        _refuse(problems)
        return cls(**read)

    def to_mapping(self) -> dict[str, Any]:
        """The slo as plain JSON values, under the names of the `--slo` option."""
        return {
            item.name: list(value) if isinstance(value, tuple) else value
            for item in fields(self)
            if (value := getattr(self, item.name)) is not None
        }


_RANGES = (
    ("min_accuracy", 0.0, 1.0),
    ("min_relative_accuracy", 0.0, 1.5),
    ("confidence", 0.5, 0.9999),
    ("exploration_rate", 0.0, 1.0),
    ("exploration_cost_share", 0.0, 1.0),
)
_POSITIVE = (
    *("max_latency_s", "max_cost_usd", "max_energy_wh", "accuracy_value_usd"),
    *("budget_usd_per_hour", "budget_usd_per_day", "budget_usd_per_month"),
)
_NAMES = tuple(
    f"{how}_{what}"
    for what in ("models", "regions", "strategies")
    for how in ("allowed", "excluded")
)
_TEXTS = ("name", "reference_arm", "safe_arm")
_DEFAULTS = {item.name: item.default for item in fields(Slo)}


def _refuse(problems: Sequence[tuple[str, str]]) -> None:
    """Raises InvalidInput that names the first field and lists all, if there are any."""
    if problems:
        (field, first), *rest = problems
        raise InvalidInput("; ".join([first, *(f"{key}: {why}" for key, why in rest)]), field=field)


def _read(key: str, value: Any) -> Any:
    if key not in _DEFAULTS:
        raise ValueError(f"unknown key; known are {sorted(_DEFAULTS)}")
    if value is None:
        return _DEFAULTS[key]
    read: Callable[[Any], Any] = _READERS.get(key, _number)
    return read(value)


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{value!r:.80} is not a list of names")
    return tuple(map(_text, value))


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable() or len(value) > LONGEST_TEXT:
        raise ValueError(f"{value!r:.80} is not plain text of at most {LONGEST_TEXT} characters")
    return value


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r:.80} is neither true nor false")
    return value


def _version(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise ValueError(f"{value!r:.80} is not a whole number from 0 up")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r:.80} is not a number")
    return float(value)


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "accuracy_scope": AccuracyScope,
    "on_infeasible": OnInfeasible,
    "guarded": _switch,
    "version": _version,
    **dict.fromkeys(_NAMES, _names),
    **dict.fromkeys(_TEXTS, _text),
}


def _parts(arm: str) -> tuple[str, str]:
    """The model and the strategy of an arm's key."""
    model, _, strategy = arm.partition("?")[0].rpartition(":")
    return model, strategy
