"""Checks what was sent, field by field: a value, or InvalidInput that names the field."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from router.errors import InvalidInput

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@+-]{0,127}")
_REPLACED = "\ufffd"
_LONGEST_SPAN = timedelta(days=366)


def clean(text: str) -> str:
    """The text without NUL, which Postgres cannot hold; a replacement character stands there."""
    return text.replace("\x00", _REPLACED) if "\x00" in text else text


def uuid(text: str, field: str) -> UUID:
    """A UUID in its canonical form or without hyphens."""
    try:
        return UUID(text)
    except ValueError:
        raise InvalidInput(f"{text!r:.80} is not a UUID", field=field) from None


def optional_uuid(text: str, field: str) -> UUID | None:
    """As `uuid`; empty is None."""
    return uuid(text, field) if text else None


def short(text: str, field: str, most: int) -> str:
    """Text of at most so many characters."""
    if len(text) > most:
        raise InvalidInput(f"has {len(text)} characters, more than {most}", field=field)
    return clean(text)


def name(text: str, field: str) -> str:
    """A plain name: letters, digits and ._/:@+- after a letter or digit, at most 128."""
    if not _NAME.fullmatch(text):
        raise InvalidInput(
            f"{text!r:.80} is no plain name; use letters, digits and ._/:@+-", field=field
        )
    return text


def labels(given: Mapping[str, str]) -> dict[str, str]:
    """At most 16 labels of up to 64 characters."""
    if len(given) > 16:
        raise InvalidInput(f"there are {len(given)} labels, more than 16", field="labels")
    return {short(key, "labels", 64): short(value, "labels", 64) for key, value in given.items()}


def optional(message: Any, field: str) -> Any:
    """The field's value, or None where it is unset."""
    return getattr(message, field) if message.HasField(field) else None


def amount(value: float | None, field: str) -> float | None:
    """A finite number that is not negative, or None."""
    if value is not None and not 0 <= value < math.inf:
        raise InvalidInput(f"{value} is not a number from 0 up", field=field)
    return None if value is None else float(value)


def count(value: float | None, field: str) -> int | None:
    """A whole number that is not negative, or None."""
    known = amount(value, field)
    return None if known is None else int(known)


def share(value: float | None, field: str) -> float | None:
    """A number in [0, 1], or None."""
    if value is not None and not 0 <= value <= 1:
        raise InvalidInput(f"{value} is not between 0 and 1", field=field)
    return None if value is None else float(value)


def finite(value: float | None, field: str) -> float | None:
    """A finite number, or None."""
    if value is not None and not math.isfinite(value):
        raise InvalidInput(f"{value} is not a finite number", field=field)
    return None if value is None else float(value)


def span(message: Any, field: str, usual: timedelta) -> timedelta:
    """An optional Duration of more than nothing and at most 366 days; unset is `usual`."""
    if not message.HasField(field):
        return usual
    given = getattr(message, field)
    if not 0 <= given.seconds <= _LONGEST_SPAN.total_seconds() or given.nanos < 0:
        raise InvalidInput("is not between 0 and 366 days", field=field)
    return timedelta(seconds=given.seconds, microseconds=given.nanos / 1_000)


def time(message: Any, field: str) -> datetime | None:
    """An optional time between the years 2000 and 2100."""
    if not message.HasField(field):
        return None
    seconds = getattr(message, field).seconds
    if not 946_684_800 <= seconds < 4_102_444_800:
        raise InvalidInput("is not between the years 2000 and 2100", field=field)
    if not 0 <= getattr(message, field).nanos < 1_000_000_000:
        raise InvalidInput("has nanos that are not from 0 to 999,999,999", field=field)
    at: datetime = getattr(message, field).ToDatetime(UTC)
    return at
