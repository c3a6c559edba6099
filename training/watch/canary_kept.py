"""What the watcher keeps of a canary between turns, beside what it says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Self

from router.errors import InvalidInput
from training.canary.comparison import Comparison
from training.canary.judge import Plan

MOST_UNTOLD = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """How far the comparison of a canary with the `active` policy has come.

    `steps` are the shares with their times, of which the last holds; `since` is the place in
    the order of arrival from which nothing is counted yet. Of `decisions` of the canary,
    `at_share` were at the last share; `apart` outcomes were of no use. `guards` say by slo and
    side whether the safe arm was taken for want of a certificate. `untold` are events to tell.
    `counted_at` is the time of the last turn at this share, None before.
    """

    active: int
    steps: tuple[tuple[datetime, float], ...]
    since: int
    comparison: Comparison
    counted_at: datetime | None = None
    decisions: int = 0
    at_share: int = 0
    apart: int = 0
    guards: Mapping[str, bool] = field(default_factory=dict)
    untold: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def begun(cls, plan: Plan, *, active: int, share: float, since: int, at: datetime) -> Self:
        """Nothing counted yet."""
        comparison = Comparison.of(plan.slacks)
        return cls(active=active, steps=((at, share),), since=since, comparison=comparison)

    @property
    def share(self) -> float:
        """The share of now."""
        return self.steps[-1][1]

    def stepped(self, share: float, at: datetime) -> Kept:
        """At another share from then on."""
        comparison = self.comparison.next_step()
        steps = (*self.steps, (at, share))
        return replace(self, steps=steps, at_share=0, comparison=comparison, counted_at=None)

    def with_more(
        self,
        *,
        decisions: int,
        apart: int,
        guards: Mapping[str, bool],
        comparison: Comparison,
    ) -> Kept:
        """With more counted."""
        return replace(
            self,
            decisions=self.decisions + decisions,
            at_share=self.at_share + decisions,
            apart=self.apart + apart,
            guards=guards,
            comparison=comparison,
        )

    def telling(self, event: Mapping[str, Any]) -> Kept:
        """With an event to tell, once."""
        known = [each for each in self.untold if each["id"] != event["id"]]
        return replace(self, untold=(*known, event)[-MOST_UNTOLD:])

    def has_news(self, before: Kept) -> bool:
        """Whether more was counted than before, or a share is new."""
        return before.counted_at is None or self.counts != before.counts

    @property
    def counts(self) -> tuple[int, ...]:
        """What grows with whatever is counted."""
        seen = self.comparison.bets.capital.seen
        return self.decisions, self.apart, seen, len(self.steps)

    def summary(self) -> dict[str, Any]:
        """What people are told beside the verdict."""
        return {
            "active": self.active,
            "began": self.steps[0][0].isoformat(),
            "at_share_since": self.steps[-1][0].isoformat(),
            "decisions": self.decisions,
            "at_share": self.at_share,
            "outcomes": self.comparison.outcomes(canary=True),
            "apart": self.apart,
            "shares": [share for _, share in self.steps],
        }

    def to_mapping(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        names = ("active", "since", "decisions", "at_share", "apart")
        return {
            **{name: getattr(self, name) for name in names},
            "steps": [[at.isoformat(), share] for at, share in self.steps],
            "counted_at": self.counted_at.isoformat() if self.counted_at else None,
            "guards": dict(self.guards),
            "untold": list(self.untold),
            "comparison": self.comparison.to_mapping(),
        }

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> Self:
        """Reads what `to_mapping` wrote. Raises InvalidInput for anything else."""
        try:
            counted_at = value["counted_at"]
            return cls(
                active=int(value["active"]),
                steps=tuple(
                    (datetime.fromisoformat(at), float(share)) for at, share in value["steps"]
                ),
                since=int(value["since"]),
                comparison=Comparison.from_mapping(value["comparison"]),
                counted_at=datetime.fromisoformat(counted_at) if counted_at else None,
                decisions=int(value["decisions"]),
                at_share=int(value["at_share"]),
                apart=int(value["apart"]),
                guards=dict(value["guards"]),
                untold=tuple(value["untold"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(
                f"not a canary of this version ({error!r}); begin anew", field="canary"
            ) from None
