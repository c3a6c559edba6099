"""A gate's verdict for people: which conditions held, by what figures, and why others did not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

COLUMNS = ("condition", "held", "measured", "must", "why")


def rows(verdict: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """A row under COLUMNS for each condition of a verdict as a policy's summary keeps it."""
    for each in verdict["conditions"]:
        measured = ", ".join(f"{name} {_said(value)}" for name, value in each["measured"].items())
        yield each["name"], "yes" if each["held"] else "NO", measured, each["must"], each["why"]


def headline(verdict: Mapping[str, Any]) -> str:
    """The verdict in one line."""
    if verdict["promote"]:
        return "the gate lets it pass: every condition holds"
    failed = [each["name"] for each in verdict["conditions"] if not each["held"]]
    why = ", ".join(failed) or verdict.get("why") or "nothing was shown"
    return f"the gate does not let it pass: {why}"


def _said(value: Any) -> str:
    if value is None:
        return "unknown"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
