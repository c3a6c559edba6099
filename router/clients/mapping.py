"""Messages to plain values and back, by the names of their fields, which are the same.

A field of presence that is unset is None; an enum's value is its own word, so
`ACCURACY_SCOPE_AVERAGE` is "average"; a repeated field is a tuple, a Timestamp a time, a
Struct a dict.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

M = TypeVar("M", bound=Message)

_TIME, _STRUCT = Timestamp.DESCRIPTOR, Struct.DESCRIPTOR


def plain(message: Message) -> dict[str, Any]:
    """The message's fields; an enum's unspecified value is None, an unknown one its number."""
    return {field.name: _read(message, field) for field in message.DESCRIPTOR.fields}


def message_of(kind: type[M], value: Any) -> M:
    """The message of those fields that `value`, a mapping or an object, has and that are set."""
    message = kind()
    for field in kind.DESCRIPTOR.fields:
        given = (
            value.get(field.name)
            if isinstance(value, Mapping)
            else getattr(value, field.name, None)
        )
        if given is not None:
            _write(message, field, given)
    return message


def word(kind: EnumDescriptor, number: int) -> str | int | None:
    """The enum value's own word, without its enum's name."""
    if number not in kind.values_by_number:
        return number
    own = kind.values_by_number[number].name.removeprefix(_prefix(kind))
    return None if own == "UNSPECIFIED" else own.lower()


def time_of(stamp: Timestamp) -> datetime:
    """The time of a stamp, in UTC."""
    return stamp.ToDatetime(tzinfo=UTC)


def stamp(at: datetime) -> Timestamp:
    """The time on the wire."""
    message = Timestamp()
    message.FromDatetime(at.astimezone(UTC))
    return message


def _read(message: Message, field: Any) -> Any:
    if field.has_presence and not message.HasField(field.name):
        return None
    value = getattr(message, field.name)
    if field.is_repeated:
        return tuple(_one(field, each) for each in value)
    return _one(field, value)


def _one(field: Any, value: Any) -> Any:
    if field.enum_type is not None:
        return word(field.enum_type, value)
    if field.message_type is None:
        return value
    if field.message_type is _STRUCT:
        return MessageToDict(value)
    return time_of(value) if field.message_type is _TIME else plain(value)


def _write(message: Message, field: Any, value: Any) -> None:
    if field.is_repeated:
        texts = sorted(value) if isinstance(value, frozenset) else value
        getattr(message, field.name).extend(texts)
    elif field.enum_type is not None:
        name = _prefix(field.enum_type) + str(value).upper()
        setattr(message, field.name, field.enum_type.values_by_name[name].number)
    elif field.message_type is None:
        setattr(message, field.name, value)
    else:
        part = getattr(message, field.name)
        part.CopyFrom(_part(type(part), value))


def _part(kind: type[Message], value: Any) -> Message:
    if kind is Timestamp:
        return stamp(value)
    return ParseDict(dict(value), Struct()) if kind is Struct else message_of(kind, value)


def _prefix(kind: EnumDescriptor) -> str:
    """What every value of the enum starts with: `PolicyState` gives `POLICY_STATE_`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.name).upper() + "_"
