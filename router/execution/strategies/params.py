"""An arm's parameters as strategies read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from router.errors import InvalidInput


def whole(params: Mapping[str, Any], name: str, default: int, most: int) -> int:
    """A whole number from 1 to `most`. Raises InvalidInput."""
    value = params.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise _wrong(name, "is no whole number")
    if not 1 <= value <= most:
        raise _wrong(name, f"is not from 1 to {most:,}")
    return int(value)


def share(params: Mapping[str, Any], name: str, default: float) -> float:
    """A number between 0 and 1. Raises InvalidInput."""
    value = params.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise _wrong(name, "is no number between 0 and 1")
    return float(value)


def switch(params: Mapping[str, Any], name: str) -> bool:
    """On or off, off where it is not given. Raises InvalidInput."""
    value = params.get(name, False)
    if not isinstance(value, bool):
        raise _wrong(name, "is neither true nor false")
    return value


def one_of(params: Mapping[str, Any], name: str, known: Mapping[str, Any]) -> str:
    """One of some words, the first where it is not given. Raises InvalidInput."""
    value = params.get(name, next(iter(known)))
    if value not in known:
        raise _wrong(name, f"is none of {', '.join(known)}")
    return str(value)


def _wrong(name: str, why: str) -> InvalidInput:
    return InvalidInput(f"{name!r} {why}", field="arm.params")
