"""What a fairness audit says: each slice's figures, its shortfalls, and whether they block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from router.errors import InvalidInput
from training.fairness.figures import Against, Measure


class Told(StrEnum):
    """Whether anything can be said of a slice."""

    TOLD = "told"
    TOO_FEW = "too few to tell"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate with an interval that holds for all slices of the audit at once."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """By how much a slice gets less; of spend and thinking, as a share of what is compared with.

    Negative where it gets more. `bound` is None where none was asked for.
    """

    measure: Measure
    against: Against
    interval: Interval
    bound: float | None

    @property
    def blocks(self) -> bool:
        """Whether it is beyond the bound and beyond chance."""
        known = self.bound is not None and self.interval.estimate > self.bound
        return known and self.interval.low > 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """What one slice gets under the candidate; no figures where there is too little of it.

    `spend_usd` and `thinking` are means per interaction, thinking as inference compute.
    """

    facet: str
    name: str
    n: int
    units: float
    share: float
    told: Told
    accuracy: Interval | None
    spend_usd: Interval | None
    thinking: Interval | None
    shortfalls: tuple[Shortfall, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """Who lets a candidate pass although a slice falls short, and why."""

    who: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """Every slice's figures and the verdict; `overall` is the mean of each measure."""

    slices: tuple[Slice, ...]
    overall: Mapping[Measure, float]
    level: float
    override: Override | None = None

    @property
    def short(self) -> tuple[tuple[Slice, Shortfall], ...]:
        """The shortfalls that block, the largest first."""
        found = [(each, one) for each in self.slices for one in each.shortfalls if one.blocks]
        return tuple(sorted(found, key=lambda each: -each[1].interval.estimate))

    @property
    def blocks(self) -> bool:
        """Whether the candidate may not be promoted."""
        return bool(self.short) and self.override is None

    @property
    def untold(self) -> tuple[Slice, ...]:
        """Slices with too little to tell."""
        return tuple(each for each in self.slices if each.told is Told.TOO_FEW)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Each blocking shortfall in words."""
        return tuple(_said(*each) for each in self.short)

    def overridden(self, who: str, why: str) -> Audit:
        """The audit that a person let pass. Raises InvalidInput without a name and a reason."""
        if not who.strip() or not why.strip():
            raise InvalidInput("say who overrides the fairness audit and why", field="override")
        return replace(self, override=Override(who=who, why=why))

    def to_mapping(self) -> dict[str, Any]:
        """The audit as plain JSON values."""
        plain = asdict(self)
        return {
            **plain,
            "overall": {str(name): value for name, value in self.overall.items()},
            "blocks": self.blocks,
            "reasons": list(self.reasons),
        }


def _said(each: Slice, found: Shortfall) -> str:
    what, bound = found.interval, found.bound or 0.0
    unit = "points" if found.measure is Measure.ACCURACY else "%"
    return (
        f"{each.facet} {each.name}: {found.measure} falls short of the {found.against} by "
        f"{100 * what.estimate:.1f} {unit} [{100 * what.low:.1f}, {100 * what.high:.1f}], "
        f"beyond {100 * bound:.1f}, over {each.n:,} interactions"
    )
