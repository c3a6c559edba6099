"""What the watcher keeps of an slo's alarm between turns: a climb for each version, and events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from router.errors import InvalidInput
from router.policy.climbing import Climbing, climb
from router.store.alarms import AlarmRecord, Climbed

MOST_UNTOLD = 20
FORGOTTEN_AFTER = 2_000

Event = Mapping[str, Any]
Versions = tuple[int, int]
"""Of the slo and of the policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The climbs under each version, of `seen` decisions in all; `untold` are events to tell.

    `last` says which decision was the newest of a version: one of which no decision came for
    2,000 is forgotten, since another policy or slo has taken its place.
    """

    seen: int = 0
    climbs: Mapping[Versions, Climbing] = field(default_factory=dict)
    last: Mapping[Versions, int] = field(default_factory=dict)
    untold: tuple[Event, ...] = ()

    @property
    def ringing(self) -> bool:
        """Whether the decisions of any version climb higher than is usual."""
        return any(each.ringing for each in self.climbs.values())

    @property
    def newest(self) -> Climbing | None:
        """The version that rings, else the one of the newest decision."""
        order = sorted(self.last, key=lambda each: (self.climbs[each].ringing, self.last[each]))
        return self.climbs[order[-1]] if order else None

    def counting(self, decided: Iterable[Climbed], *, margin: float) -> Kept:
        """With more decisions, in the order of their arrival."""
        seen, climbs, last = self.seen, dict(self.climbs), dict(self.last)
        for each in decided:
            versions = each.slo_version, each.policy_version
            known = climbs.get(versions) or Climbing(
                slo_version=each.slo_version, policy_version=each.policy_version
            )
            value = climb(np.array(each.cost_usd, float), each.arm)
            climbs[versions] = known.observe(value, each.occurred_at, margin=margin)
            seen += 1
            last[versions] = seen
        going_on = [each for each in last if seen - last[each] <= FORGOTTEN_AFTER]
        return replace(
            self,
            seen=seen,
            climbs={each: climbs[each] for each in going_on},
            last={each: last[each] for each in going_on},
        )

    def telling(self, event: Event) -> Kept:
        """With an event to tell."""
        return replace(self, untold=(*self.untold, event)[-MOST_UNTOLD:])

    def told(self, taken: set[str]) -> Kept:
        """Without the events of these ids."""
        return replace(self, untold=tuple(each for each in self.untold if each["id"] not in taken))

    def statement(self, margin: float) -> dict[str, Any]:
        """What people are told: the usual mean, the bound and the mean of late."""
        now = self.newest
        if now is None:
            return {"decisions": self.seen, "usual": None, "bound": None, "recent": None}
        known = now.needed is not None
        return {
            "decisions": self.seen,
            "usual": round(now.usual, 4) if known else None,
            "bound": round(now.bound(margin), 4) if known else None,
            "recent": round(now.recent, 4) if known else None,
        }

    def to_mapping(self, margin: float) -> dict[str, Any]:
        """All of it as plain JSON values, with the statement."""
        climbs = [
            {**each.to_mapping(), "last": self.last[versions]}
            for versions, each in self.climbs.items()
        ]
        said = self.statement(margin)
        return {**said, "seen": self.seen, "climbs": climbs, "untold": list(self.untold)}

    @classmethod
    def of(cls, record: AlarmRecord | None) -> Self:
        """What a record keeps; nothing where there is none, or none that this version reads."""
        if record is None:
            return cls()
        try:
            climbs = [Climbing.from_mapping(each) for each in record.body["climbs"]]
            versions = [(each.slo_version, each.policy_version) for each in climbs]
            return cls(
                seen=int(record.body["seen"]),
                climbs=dict(zip(versions, climbs, strict=True)),
                last={
                    each: int(body["last"])
                    for each, body in zip(versions, record.body["climbs"], strict=True)
                },
                untold=tuple(record.body["untold"]),
            )
        except (InvalidInput, KeyError, TypeError, ValueError):
            return cls()
