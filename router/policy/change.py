"""Whether accuracy still is what it was measured to be: a fall of the mean, found at any look.

Each outcome is held against what the policy predicted of it, and the mean of that against
its own past, over all models together and for each: a change that one model makes is larger
in its own outcomes than in all. The past's mean is known as well as a confidence sequence
says; bets that later ones fall short of it are e-processes that restart (Shin, Ramdas &
Rinaldo 2023, "E-detectors"), and so is their weighted mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, Self

import numpy as np

from router.errors import InvalidInput
from router.policy.betting import Capital
from router.policy.monitoring import boundary

ALL = ""
"""The stream of all models' outcomes."""

TOLERATED, TOLERATED_OF_MODEL = 0.01, 0.02
"""By how much the mean may fall without that it counts: other queries of the same kind."""

OF_PAST = 0.2
"""The share of the error that goes to what is known of the past."""

ODDS = np.array([1.0, 0.35])
"""What each bet pays per unit that an outcome falls short: for large falls, and for small ones,
of which more is at stake since they take longer to find."""

LOOKED_EVERY = 25
"""What is known of the past is worked out again after so many outcomes of a stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """An outcome of a decision's first arm: its score, and the accuracy that was predicted."""

    model: str
    score: float
    expected: float
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Of so many outcomes the sums of scores and of score - predicted accuracy.

    `variation` is that of squares of the latter's distance from its mean before, halved.
    """

    outcomes: int = 0
    score: float = 0.0
    excess: float = 0.0
    variation: float = 0.0

    def add(self, seen: Seen) -> Sums:
        """With one more."""
        excess = seen.score - seen.expected
        away = (excess - self.excess / (1.0 + self.outcomes)) / 2.0
        return Sums(
            outcomes=self.outcomes + 1,
            score=self.score + seen.score,
            excess=self.excess + excess,
            variation=self.variation + away**2,
        )

    def low(self, level: float) -> float:
        """Is below the mean of score - prediction at all times at once, but for the level."""
        away = 2.0 * boundary(self.variation, 1.0 / level)
        return max((self.excess - away) / self.outcomes, -1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Where a bet was opened: what had been seen, and when."""

    sums: Sums = field(default_factory=Sums)
    at: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """The outcomes of one model, or of all.

    `edge` is the most that score - prediction was at least on average at any time, at the
    `level`, less what is `tolerated`; the bets of `capital` are that it falls short of this.
    """

    level: float
    tolerated: float
    sums: Sums = field(default_factory=Sums)
    capital: Capital = field(default_factory=Capital.of)
    edge: float = -1.0
    marks: tuple[Mark, ...] = (Mark(),) * len(ODDS)

    @property
    def e_value(self) -> float:
        """What the bets have made of a capital of 1."""
        return float(self.capital.total)

    def after(self, seen: Seen) -> Stream:
        """With one more outcome."""
        excess, sums = seen.score - seen.expected, self.sums.add(seen)
        most = max(1.0 - seen.expected - self.edge, 1e-3)
        capital = self.capital.bet(self.edge - excess, np.minimum(ODDS, 0.9 / most))
        opens = (capital.openings > self.capital.openings).tolist()
        mark = Mark(sums=sums, at=seen.at.isoformat())
        edge = self.edge
        if sums.outcomes % LOOKED_EVERY == 0:
            edge = max(edge, sums.low(self.level) - self.tolerated)
        return replace(
            self,
            sums=sums,
            capital=capital,
            edge=edge,
            marks=tuple(mark if new else old for new, old in zip(opens, self.marks, strict=True)),
        )

    def found(self, now: datetime) -> Found:
        """What the bet that has won the most says, since it was opened."""
        mark = self.marks[int(self.capital.staked.argmax())]
        before, count = mark.sums, self.sums.outcomes - mark.sums.outcomes
        recent = (self.sums.score - before.score) / max(count, 1)
        fall = before.excess / max(before.outcomes, 1)
        fall -= (self.sums.excess - before.excess) / max(count, 1)
        since = mark.at or now.isoformat()
        return Found(since=since, outcomes=count, accuracy=recent, measured=recent + fall)

    def to_mapping(self) -> dict[str, Any]:
        """The stream as plain JSON values."""
        names = ("level", "tolerated", "edge")
        return {
            **{name: getattr(self, name) for name in names},
            "sums": asdict(self.sums),
            "capital": self.capital.to_mapping(),
            "marks": [asdict(mark) for mark in self.marks],
        }

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> Self:
        """Reads what `to_mapping` wrote. Raises KeyError, TypeError or ValueError."""
        marks = [Mark(sums=Sums(**each["sums"]), at=each["at"]) for each in value["marks"]]
        return cls(
            level=float(value["level"]),
            tolerated=float(value["tolerated"]),
            edge=float(value["edge"]),
            sums=Sums(**value["sums"]),
            capital=Capital.from_mapping(value["capital"]),
            marks=tuple(marks),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A fall: of so many `outcomes` since then, the mean score, and what had been measured.

    `measured` is the accuracy that was to be expected of the same decisions before. They are
    the `model`'s, or all. `fallen` are the models whose own outcomes tell of it, in order.
    """

    since: str
    outcomes: int
    accuracy: float
    measured: float
    model: str = ALL
    fallen: tuple[str, ...] = ()

    def __str__(self) -> str:
        by = f", by {', '.join(self.fallen)}" if self.fallen else ""
        of = f" of {self.model}" if self.model else ""
        return (
            f"accuracy fell{by}: {self.accuracy:.3f} over {self.outcomes:,} outcomes{of} since "
            f"{self.since}, where {self.measured:.3f} had been measured"
        )

    def to_mapping(self) -> dict[str, Any]:
        """The fall as plain JSON values."""
        return asdict(self) | {"fallen": list(self.fallen)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Watches for a fall of accuracy. Immutable.

    While no stream's mean, given what came before, is more than is tolerated below its mean
    until any time before, the chance that a fall is ever `found` is at most `level`. The same
    outcomes in the same order, one by one or in batches, give the same watch. Which outcomes
    arrive must not hang on their scores.
    """

    level: float = 0.05
    streams: Mapping[str, Stream] = field(default_factory=dict)
    found: Found | None = None

    @property
    def alarm_at(self) -> float:
        """The e-value from which a fall is found."""
        return 1.0 / ((1.0 - OF_PAST) * self.level)

    @property
    def e_value(self) -> float:
        """The weighted mean of the streams' e-values; those that are yet to come have 1."""
        won = (share_of(j) * (each.e_value - 1.0) for j, each in enumerate(self.streams.values()))
        return 1.0 + sum(won)

    def observe(self, seen: Iterable[Seen]) -> Change:
        """With outcomes that arrived in this order."""
        after = self
        for each in seen:
            after = after._after(each)
        return after

    def _after(self, seen: Seen) -> Change:
        streams = {**self.streams}
        for name in (ALL, seen.model):
            known = streams.get(name) or self._begun(len(streams), name)
            streams[name] = known.after(seen)
        return replace(self, streams=streams).judged(seen.at)

    def _begun(self, place: int, name: str) -> Stream:
        tolerated = TOLERATED if name == ALL else TOLERATED_OF_MODEL
        return Stream(level=OF_PAST * self.level * share_of(place), tolerated=tolerated)

    def judged(self, now: datetime) -> Change:
        """With what is found now; once it is, models may still be added to it."""
        found = self.found
        if found is None and self.e_value < self.alarm_at:
            return self
        if found is None:
            shares = {name: share_of(j) for j, name in enumerate(self.streams)}
            most = max(shares, key=lambda name: shares[name] * self.streams[name].e_value)
            found = replace(self.streams[most].found(now), model=most)
        models = {name for name, each in self.streams.items() if each.e_value >= self.alarm_at}
        fallen = tuple(sorted({*found.fallen, *models} - {ALL}))
        return replace(self, found=replace(found, fallen=fallen))

    def to_mapping(self) -> dict[str, Any]:
        """The watch as plain JSON values, about 1 kB a model."""
        return {
            "level": self.level,
            "streams": [[name, each.to_mapping()] for name, each in self.streams.items()],
            "found": self.found.to_mapping() if self.found else None,
        }

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> Self:
        """Reads what `to_mapping` wrote, bit for bit. Raises InvalidInput for anything else."""
        try:
            return cls(
                level=float(value["level"]),
                streams={name: Stream.from_mapping(each) for name, each in value["streams"]},
                found=read_found(value["found"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(
                f"not a watch of this version ({error!r}); begin a new one", field="change"
            ) from None


def read_found(value: Mapping[str, Any] | None) -> Found | None:
    """Reads what `Found.to_mapping` wrote; None is none. Raises KeyError or TypeError."""
    return None if value is None else Found(**{**value, "fallen": tuple(value["fallen"])})


def share_of(place: int) -> float:
    """The weight of a stream by its place, 0 that of all models: they add up to 1."""
    return 1.0 / ((place + 1) * (place + 2))
