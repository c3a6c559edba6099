"""Views JSON as an API library's objects show it, each part only when it is read."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any


class View:
    """An object of JSON; a field that it lacks reads as None."""

    __slots__ = ("_fields",)

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields

    def __getattr__(self, name: str) -> Any:
        return view(self._fields.get(name))

    def model_dump(self, *, exclude_none: bool = False) -> dict[str, Any]:
        """The object itself, without nulls where that is asked for."""
        return _without_nulls(self._fields) if exclude_none else self._fields


def view(value: Any) -> Any:
    """The value, or views of what it holds."""
    if isinstance(value, dict):
        return View(value)
    return [view(item) for item in value] if isinstance(value, list) else value


async def views(chunks: Any) -> AsyncGenerator[Any, None]:
    """A view of each chunk of a stream, which ends with this."""
    async with chunks:
        async for chunk in chunks:
            yield view(chunk)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value
