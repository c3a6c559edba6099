"""Slos, models, arms and policies: values to messages and back."""

from __future__ import annotations

import math
from typing import Any

from router.errors import InvalidInput
from router.serving import fields
from router.serving.rows import arm_of
from router.slo import AccuracyScope, OnInfeasible, Slo
from router.types import MOST_PARAMS, Arm, Capability, Model, PolicyRecord, PolicyState, check_arm
from router.v1 import catalog_pb2, policies_pb2, slos_pb2

_SCOPES = {
    slos_pb2.ACCURACY_SCOPE_UNSPECIFIED: AccuracyScope.AVERAGE,
    slos_pb2.ACCURACY_SCOPE_AVERAGE: AccuracyScope.AVERAGE,
    slos_pb2.ACCURACY_SCOPE_PER_QUERY: AccuracyScope.PER_QUERY,
}
_INFEASIBLE = {
    slos_pb2.ON_INFEASIBLE_UNSPECIFIED: OnInfeasible.BEST_EFFORT,
    slos_pb2.ON_INFEASIBLE_BEST_EFFORT: OnInfeasible.BEST_EFFORT,
    slos_pb2.ON_INFEASIBLE_CHEAPEST: OnInfeasible.CHEAPEST,
    slos_pb2.ON_INFEASIBLE_REJECT: OnInfeasible.REJECT,
}
_SCOPE_MESSAGES = {value: number for number, value in _SCOPES.items() if number}
_INFEASIBLE_MESSAGES = {value: number for number, value in _INFEASIBLE.items() if number}
_STATES = {
    PolicyState.CANDIDATE: policies_pb2.POLICY_STATE_CANDIDATE,
    PolicyState.CANARY: policies_pb2.POLICY_STATE_CANARY,
    PolicyState.ACTIVE: policies_pb2.POLICY_STATE_ACTIVE,
    PolicyState.PREVIOUS: policies_pb2.POLICY_STATE_PREVIOUS,
    PolicyState.REJECTED: policies_pb2.POLICY_STATE_REJECTED,
}
_MOST_TOKENS = 1 << 30
_LONGEST_KEY = 2_000


def slo_of(message: slos_pb2.Slo) -> Slo:
    """Reads an slo. Raises InvalidInput that names the field."""
    return Slo(
        name=fields.name(message.name, "slo.name"),
        min_accuracy=fields.optional(message, "min_accuracy"),
        accuracy_scope=_known(_SCOPES, message.accuracy_scope, "accuracy_scope"),
        confidence=message.confidence or 0.95,
        max_latency_s=fields.optional(message, "max_latency_s"),
        latency_quantile=message.latency_quantile or 0.95,
        max_cost_usd=fields.optional(message, "max_cost_usd"),
        accuracy_value_usd=fields.optional(message, "accuracy_value_usd"),
        allowed_models=_names(message.allowed_models, "allowed_models"),
        excluded_models=_names(message.excluded_models, "excluded_models"),
        allowed_strategies=_names(message.allowed_strategies, "allowed_strategies"),
        exploration_rate=message.exploration_rate,
        on_infeasible=_known(_INFEASIBLE, message.on_infeasible, "on_infeasible"),
    )


def _names(given: Any, field: str) -> tuple[str, ...]:
    return tuple(fields.name(each, field) for each in given)


def _known(table: dict[Any, Any], number: int, field: str) -> Any:
    if number not in table:
        raise InvalidInput(f"{number} is not one of its values", field=field)
    return table[number]


def slo_message(slo: Slo) -> slos_pb2.Slo:
    """The slo on the wire."""
    return slos_pb2.Slo(
        name=slo.name,
        version=slo.version,
        min_accuracy=slo.min_accuracy,
        accuracy_scope=_SCOPE_MESSAGES[slo.accuracy_scope],
        confidence=slo.confidence,
        max_latency_s=slo.max_latency_s,
        latency_quantile=slo.latency_quantile,
        max_cost_usd=slo.max_cost_usd,
        accuracy_value_usd=slo.accuracy_value_usd,
        allowed_models=slo.allowed_models,
        excluded_models=slo.excluded_models,
        allowed_strategies=slo.allowed_strategies,
        exploration_rate=slo.exploration_rate,
        on_infeasible=_INFEASIBLE_MESSAGES[slo.on_infeasible],
    )


def model_of(message: catalog_pb2.Model) -> Model:
    """Reads a model. Raises InvalidInput that names the field."""
    return Model(
        name=fields.name(message.name, "model.name"),
        input_usd_per_mtok=_price(message, "input_usd_per_mtok"),
        output_usd_per_mtok=_price(message, "output_usd_per_mtok"),
        tier=_between(message.tier, 0, 1_000, "model.tier"),
        context_tokens=_between(message.context_tokens, 1, _MOST_TOKENS, "model.context_tokens"),
        max_output_tokens=_between(
            message.max_output_tokens, 1, _MOST_TOKENS, "model.max_output_tokens"
        ),
        capabilities=frozenset(map(_capability, message.capabilities)),
        energy_wh_per_ktok=_price(message, "energy_wh_per_ktok"),
        region=fields.short(message.region, "model.region", 64),
        endpoint=fields.short(message.endpoint, "model.endpoint", 1_000),
        endpoint_model=fields.short(message.endpoint_model, "model.endpoint_model", 200),
        enabled=message.enabled,
    )


def _price(message: catalog_pb2.Model, field: str) -> float:
    value = float(getattr(message, field))
    if not 0 <= value < math.inf:
        raise InvalidInput(f"{value} is not a number from 0 up", field=f"model.{field}")
    return value


def _between(value: int, low: int, high: int, field: str) -> int:
    if not low <= value <= high:
        raise InvalidInput(f"{value} is not from {low} to {high}", field=field)
    return value


def _capability(text: str) -> Capability:
    if text not in tuple(Capability):
        raise InvalidInput(
            f"{text!r:.40} is not one of {sorted(Capability)}", field="model.capabilities"
        )
    return Capability(text)


def arm_from(message: catalog_pb2.Arm) -> Arm:
    """Reads an arm; a key may stand alone. Raises InvalidInput that names the field."""
    arm = _keyed(message.key) if message.key and not message.model else None
    model, strategy = (arm.model, arm.strategy) if arm else (message.model, message.strategy)
    params = arm.params if arm else message.params
    if len(params) > MOST_PARAMS:
        raise InvalidInput(f"there are {len(params)}, more than {MOST_PARAMS}", field="arm.params")
    read = Arm(
        model=model,
        strategy=strategy,
        params={name: _param(value) for name, value in params.items()},
    )
    check_arm(read)
    return read


def _keyed(key: str) -> Arm:
    if len(key) > _LONGEST_KEY:
        raise InvalidInput(f"has {len(key)} characters, more than 2,000", field="arm.key")
    try:
        return arm_of(key)
    except ValueError as error:
        raise InvalidInput(str(error), field="arm.key") from None


def _param(value: Any) -> Any:
    """A parameter's value; a Struct has no whole numbers, so those are made whole again."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool | int | float | str):
        return value
    raise InvalidInput("must be numbers, texts or booleans", field="arm.params")


def policy_message(record: PolicyRecord) -> policies_pb2.Policy:
    """The policy on the wire."""
    message = policies_pb2.Policy(
        version=record.version,
        state=_STATES[record.state],
        bundle_sha256=record.bundle_sha256,
        bundle_bytes=record.bundle_bytes,
    )
    message.created_at.FromDatetime(record.created_at)
    if record.promoted_at is not None:
        message.promoted_at.FromDatetime(record.promoted_at)
    message.summary.update(dict(record.summary))
    return message
