"""Slos, models, arms and policies off the wire, strictly: what is wrong is named by its field.

The mapping itself is the clients'; here stands what a server refuses beyond that.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from router.clients import messages
from router.clients.mapping import message_of
from router.errors import InvalidInput
from router.serving import fields
from router.serving.rows import arm_of
from router.slo import Slo
from router.types import MOST_PARAMS, Arm, Capability, Model, PolicyRecord, check_arm
from router.v1 import catalog_pb2, policies_pb2, slos_pb2

_LONGEST_KEY = 2_000
_LONGEST_REGION = 64
_AMOUNTS = (
    *("input_usd_per_mtok", "output_usd_per_mtok", "cached_input_usd_per_mtok"),
    *("energy_wh_per_ktok", "grid_gco2e_per_kwh"),
)
_COUNTS = (
    ("tier", 0, 1_000),
    ("context_tokens", 1, 1 << 30),
    ("max_output_tokens", 1, 1 << 30),
)
_TEXTS = (("region", _LONGEST_REGION), ("endpoint", 1_000), ("endpoint_model", 200))


def slo_of(message: slos_pb2.Slo) -> Slo:
    """Reads an slo. Raises InvalidInput that names the field."""
    fields.name(message.name, "slo.name")
    for field in ("allowed_models", "excluded_models", "allowed_strategies", "excluded_strategies"):
        for each in getattr(message, field):
            fields.name(each, field)
    for field in ("allowed_regions", "excluded_regions"):
        for region in getattr(message, field):
            fields.short(region, field, _LONGEST_REGION)
    for field in ("reference_arm", "safe_arm"):
        if key := getattr(message, field):
            _check_named(key, field)
    return replace(messages.slo_of(message), version=0)


def _check_named(key: str, field: str) -> None:
    try:
        check_arm(_keyed(key, field))
    except InvalidInput as error:
        raise InvalidInput(error.message.removeprefix(f"{field}: "), field=field) from None


def model_of(message: catalog_pb2.Model) -> Model:
    """Reads a model. Raises InvalidInput that names the field."""
    fields.name(message.name, "model.name")
    for field in _AMOUNTS:
        if not 0 <= (value := getattr(message, field)) < math.inf:
            raise InvalidInput(f"{value} is not a number from 0 up", field=f"model.{field}")
    for field, low, high in _COUNTS:
        if not low <= (value := getattr(message, field)) <= high:
            raise InvalidInput(f"{value} is not from {low} to {high}", field=f"model.{field}")
    for capability in message.capabilities:
        _check_capability(capability)
    if message.thinking not in catalog_pb2.Thinking.values():
        raise InvalidInput(
            f"{message.thinking} is none of its values; update the server", field="model.thinking"
        )
    texts: dict[str, Any] = {
        field: fields.short(getattr(message, field), f"model.{field}", most)
        for field, most in _TEXTS
    }
    return replace(messages.model_of(message), **texts)


def _check_capability(text: str) -> None:
    if text not in tuple(Capability):
        raise InvalidInput(
            f"{text!r:.40} is not one of {sorted(Capability)}", field="model.capabilities"
        )


def arm_from(message: catalog_pb2.Arm) -> Arm:
    """Reads an arm; a key may stand alone. Raises InvalidInput that names the field."""
    arm = _keyed(message.key, "arm.key") if message.key and not message.model else None
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


def _keyed(key: str, field: str) -> Arm:
    if len(key) > _LONGEST_KEY:
        raise InvalidInput(f"has {len(key)} characters, more than 2,000", field=field)
    try:
        return arm_of(key)
    except ValueError as error:
        raise InvalidInput(str(error), field=field) from None


def _param(value: Any) -> Any:
    """A parameter's value; a Struct has no whole numbers, so those are made whole again."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool | int | float | str):
        return value
    raise InvalidInput("must be numbers, texts or booleans", field="arm.params")


def policy_message(record: PolicyRecord) -> policies_pb2.Policy:
    """The policy on the wire."""
    return message_of(policies_pb2.Policy, record)
