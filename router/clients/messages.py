"""Between the protos and the words of `router.types`: models, arms, slos, policies."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from router.slo import AccuracyScope, OnInfeasible, Slo
from router.types import Arm, Capability, Model, PolicyRecord, PolicyState
from router.v1 import catalog_pb2, policies_pb2, slos_pb2


def arm_message(arm: Arm) -> catalog_pb2.Arm:
    """The arm on the wire."""
    return catalog_pb2.Arm(
        model=arm.model, strategy=arm.strategy, params=_struct(dict(arm.params)), key=arm.key
    )


def arm_of(message: catalog_pb2.Arm) -> Arm:
    """The arm in a message; whole numbers among its parameters are ints again."""
    params = {name: _whole(value) for name, value in _plain(message.params).items()}
    return Arm(model=message.model, strategy=message.strategy, params=params)


def model_message(model: Model) -> catalog_pb2.Model:
    """The model on the wire."""
    return catalog_pb2.Model(
        name=model.name,
        input_usd_per_mtok=model.input_usd_per_mtok,
        output_usd_per_mtok=model.output_usd_per_mtok,
        tier=model.tier,
        context_tokens=model.context_tokens,
        max_output_tokens=model.max_output_tokens,
        capabilities=sorted(model.capabilities),
        energy_wh_per_ktok=model.energy_wh_per_ktok,
        region=model.region,
        endpoint=model.endpoint,
        endpoint_model=model.endpoint_model,
        enabled=model.enabled,
    )


def model_of(message: catalog_pb2.Model) -> Model:
    """The model in a message; raises ValueError for a capability that is none."""
    return Model(
        name=message.name,
        input_usd_per_mtok=message.input_usd_per_mtok,
        output_usd_per_mtok=message.output_usd_per_mtok,
        tier=message.tier,
        context_tokens=message.context_tokens,
        max_output_tokens=message.max_output_tokens,
        capabilities=frozenset(map(Capability, message.capabilities)),
        energy_wh_per_ktok=message.energy_wh_per_ktok,
        region=message.region,
        endpoint=message.endpoint,
        endpoint_model=message.endpoint_model,
        enabled=message.enabled,
    )


_OPTIONAL_OF_SLO = ("min_accuracy", "max_latency_s", "max_cost_usd", "accuracy_value_usd")
_NAMES_OF_SLO = ("allowed_models", "excluded_models", "allowed_strategies")


def slo_message(slo: Slo) -> slos_pb2.Slo:
    """The slo on the wire."""
    optional = {name: getattr(slo, name) for name in _OPTIONAL_OF_SLO}
    return slos_pb2.Slo(
        name=slo.name,
        version=slo.version,
        accuracy_scope=slos_pb2.AccuracyScope.Value(f"ACCURACY_SCOPE_{slo.accuracy_scope.upper()}"),
        confidence=slo.confidence,
        latency_quantile=slo.latency_quantile,
        exploration_rate=slo.exploration_rate,
        on_infeasible=slos_pb2.OnInfeasible.Value(f"ON_INFEASIBLE_{slo.on_infeasible.upper()}"),
        **{name: value for name, value in optional.items() if value is not None},
        **{name: getattr(slo, name) for name in _NAMES_OF_SLO},
    )


def slo_of(message: slos_pb2.Slo) -> Slo:
    """The slo in a message, unset fields at their defaults; raises InvalidInput."""
    scope = message.accuracy_scope or slos_pb2.ACCURACY_SCOPE_AVERAGE
    infeasible = message.on_infeasible or slos_pb2.ON_INFEASIBLE_BEST_EFFORT
    optional: dict[str, Any] = {
        name: getattr(message, name) for name in _OPTIONAL_OF_SLO if _has(message, name)
    }
    names: dict[str, Any] = {name: tuple(getattr(message, name)) for name in _NAMES_OF_SLO}
    return Slo(
        name=message.name or "default",
        version=message.version,
        accuracy_scope=AccuracyScope(_word(slos_pb2.AccuracyScope.Name(scope), 2)),
        confidence=message.confidence or 0.95,
        latency_quantile=message.latency_quantile or 0.95,
        exploration_rate=message.exploration_rate,
        on_infeasible=OnInfeasible(_word(slos_pb2.OnInfeasible.Name(infeasible), 2)),
        **optional,
        **names,
    )


def policy_record_of(message: policies_pb2.Policy) -> PolicyRecord:
    """The registered policy in a message."""
    return PolicyRecord(
        version=message.version,
        state=PolicyState(_word(policies_pb2.PolicyState.Name(message.state), 2)),
        created_at=time_of(message.created_at),
        promoted_at=time_of(message.promoted_at) if message.HasField("promoted_at") else None,
        bundle_sha256=message.bundle_sha256,
        bundle_bytes=message.bundle_bytes,
        summary=_plain(message.summary),
    )


def time_of(stamp: Timestamp) -> datetime:
    """The time of a stamp, in UTC."""
    return stamp.ToDatetime(tzinfo=UTC)


def stamp(at: datetime | None) -> Timestamp | None:
    """The time on the wire; None stays unset."""
    if at is None:
        return None
    message = Timestamp()
    message.FromDatetime(at.astimezone(UTC))
    return message


def _has(message: Any, name: str) -> bool:
    return bool(message.HasField(name))


def _word(enum_name: str, prefix_words: int) -> str:
    """The enum value's own word, without its enum's: `POLICY_STATE_ACTIVE` is `active`."""
    return enum_name.split("_", prefix_words)[-1].lower()


def _struct(values: dict[str, Any]) -> Struct:
    return json_format.ParseDict(values, Struct())


def _plain(struct: Struct) -> dict[str, Any]:
    return json_format.MessageToDict(struct)


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
