"""Between the protos and the words of `router.types`: models, arms, slos, policies."""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct

from router.clients.mapping import message_of, plain
from router.slo import Slo
from router.types import Arm, Capability, Model, PolicyRecord, PolicyState, Thinking
from router.v1 import catalog_pb2, policies_pb2, slos_pb2


def arm_message(arm: Arm) -> catalog_pb2.Arm:
    """The arm on the wire."""
    return catalog_pb2.Arm(
        model=arm.model, strategy=arm.strategy, params=_struct(dict(arm.params)), key=arm.key
    )


def arm_of(message: catalog_pb2.Arm) -> Arm:
    """The arm in a message; whole numbers among its parameters are ints again."""
    params = {name: _whole(value) for name, value in _values(message.params).items()}
    return Arm(model=message.model, strategy=message.strategy, params=params)


def model_message(model: Model) -> catalog_pb2.Model:
    """The model on the wire."""
    return message_of(catalog_pb2.Model, model)


def model_of(message: catalog_pb2.Model) -> Model:
    """The model in a message; raises ValueError for a word that is none of ours."""
    said = plain(message)
    said["capabilities"] = frozenset(map(Capability, said["capabilities"]))
    said["thinking"] = None if said["thinking"] is None else Thinking(said["thinking"])
    return Model(**said)


_ZERO_IS_DEFAULT = ("name", "confidence", "latency_quantile")
_OF_THE_SERVER = ("created_at",)


def slo_message(slo: Slo) -> slos_pb2.Slo:
    """The slo on the wire."""
    return message_of(slos_pb2.Slo, slo)


def slo_of(message: slos_pb2.Slo) -> Slo:
    """The slo in a message, unset fields at their defaults; raises InvalidInput."""
    said = plain(message)
    for name in _ZERO_IS_DEFAULT:
        said[name] = said[name] or None
    return Slo.from_mapping({name: said[name] for name in said if name not in _OF_THE_SERVER})


def policy_record_of(message: policies_pb2.Policy) -> PolicyRecord:
    """The registered policy in a message."""
    said = plain(message)
    return PolicyRecord(
        **said | {"state": PolicyState(said["state"]), "summary": said["summary"] or {}}
    )


def _struct(values: dict[str, Any]) -> Struct:
    return json_format.ParseDict(values, Struct())


def _values(struct: Struct) -> dict[str, Any]:
    return json_format.MessageToDict(struct)


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
