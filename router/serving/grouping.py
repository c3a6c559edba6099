"""Requests that are decided together, since all but their queries is the same for them."""

from __future__ import annotations

from dataclasses import dataclass, field

from router.conditions import Conditions
from router.pipeline import Case
from router.slo import Slo
from router.types import Bounds


@dataclass(slots=True, kw_only=True)
class Group:
    """Requests that are decided together: what they share, their places and their cases."""

    slo: Slo
    bounds: Bounds
    conditions: Conditions
    places: list[int] = field(default_factory=list, compare=False)
    cases: list[Case] = field(default_factory=list, compare=False)

    def add(self, place: int, case: Case) -> None:
        """Takes one more request in."""
        self.places.append(place)
        self.cases.append(case)


def joined(group: Group, groups: list[Group]) -> Group:
    """The one of some groups that shares all with this one; itself, put with them, if none does."""
    for other in groups:
        if other == group:
            return other
    groups.append(group)
    return group
