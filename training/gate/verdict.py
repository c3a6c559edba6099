"""The gate's verdict: every condition with its figures, for people and machines."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

Figure = float | int | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One thing that must hold: what was measured, what must be, and why it does not hold."""

    name: str
    held: bool
    measured: Mapping[str, Figure]
    must: str
    why: str = ""

    def to_mapping(self) -> dict[str, Any]:
        """The condition as plain JSON values; figures that are not finite are None."""
        return {
            "name": self.name,
            "held": self.held,
            "measured": {name: _plain(value) for name, value in self.measured.items()},
            "must": self.must,
            "why": self.why,
        }


def _plain(value: Figure) -> Figure:
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The gate's conditions; a candidate is promoted where all of them hold.

    Each must be shown by itself, so that a candidate which fails one passes with no more
    than that one's level, and no level need be shared (intersection-union; Berger 1982).
    """

    conditions: tuple[Condition, ...]

    @property
    def promote(self) -> bool:
        """Whether every condition holds."""
        return bool(self.conditions) and all(each.held for each in self.conditions)

    @property
    def failed(self) -> tuple[Condition, ...]:
        """The conditions that do not hold."""
        return tuple(each for each in self.conditions if not each.held)

    def to_mapping(self) -> dict[str, Any]:
        """The verdict as plain JSON values, as a policy's summary keeps it."""
        return {
            "promote": self.promote,
            "conditions": [each.to_mapping() for each in self.conditions],
        }

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> Self:
        """Reads what `to_mapping` wrote."""
        return cls(conditions=tuple(Condition(**each) for each in value["conditions"]))
