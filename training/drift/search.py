"""Drift: what moved since the active policy was trained, and whether to retrain early.

All figures of one comparison are controlled together (Holm), and comparisons of later
nights with the same reference share one level, 6 / (pi look)^2 of it each: the chance that
anything at all is called moved during an active policy's life, when nothing did, is at
most the level. What is significant and yet too small to matter counts as not moved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from math import exp, expm1, inf, isfinite, log
from typing import Any, Self

import numpy as np

from router.errors import InvalidInput
from router.policy.certificate import share_of
from router.types import Arm
from training.drift import arms as drift_arms
from training.drift import mix as drift_mix
from training.drift.tests import holm
from training.drift.windows import Kind, Tested, Untold, Window
from training.learning.threads import one_thread


class Severity(IntEnum):
    """Whether a figure moved; from major on it calls for retraining."""

    NONE = 0
    MINOR = 1
    MAJOR = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """From which size on a change counts, and from which on it calls for retraining.

    Of prices and latencies, these are now / before - 1.
    """

    minor: float
    major: float


FLOORS: Mapping[Kind, Floor] = {
    Kind.MIX: Floor(minor=0.05, major=0.10),
    Kind.TOPIC: Floor(minor=0.02, major=0.10),
    Kind.SEPARATION: Floor(minor=0.05, major=0.10),
    Kind.ACCURACY: Floor(minor=0.02, major=0.03),
    Kind.PRICE: Floor(minor=0.05, major=0.20),
    Kind.LATENCY: Floor(minor=0.10, major=0.20),
    Kind.LATENCY_BOUND: Floor(minor=0.03, major=0.05),
    Kind.CALIBRATION: Floor(minor=0.15, major=0.30),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How strictly to look; `look` counts the comparisons with the same reference, from 1."""

    look: int = 1
    level: float = 0.05
    seed: int = 0
    floors: Mapping[Kind, Floor] = field(default_factory=lambda: FLOORS)

    def __post_init__(self) -> None:
        if self.look < 1:
            raise InvalidInput(f"{self.look} is below 1, the first look", field="look")
        if not 0.0 < self.level < 1.0:
            raise InvalidInput(f"{self.level} is not between 0 and 1", field="level")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A figure before and now; of prices and latencies, `change` is now / before - 1.

    `low` and `high` hold the change at 95 %, for itself alone; None where only a p-value is
    known. `p_adjusted` is for all figures of the comparison together.
    """

    kind: Kind
    where: str
    before: float
    now: float
    change: float
    low: float | None
    high: float | None
    p_value: float
    p_adjusted: float
    n_before: int
    n_now: int
    severity: Severity

    def __str__(self) -> str:
        way = "rose" if self.change > 0 else "fell"
        return _SAID[self.kind].format(
            where=self.where,
            way=way,
            before=self.before,
            now=self.now,
            points=100.0 * abs(self.change),
            before_percent=100.0 * self.before,
            now_percent=100.0 * self.now,
            n=self.n_now,
        )


_SAID = {
    Kind.MIX: "the query mix moved: {points:.0f} % of queries are in another topic",
    Kind.TOPIC: "{where}: its share of queries {way} from {before_percent:.1f} to "
    "{now_percent:.1f} %",
    Kind.SEPARATION: "queries can be told from those of training, with an AUC of {now:.2f}",
    Kind.ACCURACY: "{where}: accuracy {way} by {points:.1f} points against what is predicted",
    Kind.PRICE: "{where}: cost {way} by {points:.0f} % against the catalog at training",
    Kind.LATENCY: "{where}: latency {way} by {points:.0f} %",
    Kind.LATENCY_BOUND: "{where}: latencies above the predicted 0.95 quantile {way} from "
    "{before_percent:.1f} to {now_percent:.1f} %",
    Kind.CALIBRATION: "{where}: the slope of calibration {way} from {before:.2f} to {now:.2f}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """What a comparison of two windows found; findings come in the order of their weight."""

    look: int
    level: float
    findings: tuple[Finding, ...]
    untold: tuple[Untold, ...]

    @property
    def moved(self) -> tuple[Finding, ...]:
        """What moved, the worst first."""
        return tuple(each for each in self.findings if each.severity > Severity.NONE)

    @property
    def severity(self) -> Severity:
        """That of the worst finding."""
        return max((each.severity for each in self.findings), default=Severity.NONE)

    @property
    def retrain(self) -> bool:
        """Whether to retrain before it is due."""
        return self.severity is Severity.MAJOR

    @property
    def reasons(self) -> tuple[str, ...]:
        """What moved, in words."""
        return tuple(map(str, self.moved))

    @property
    def clusters(self) -> tuple[Finding, ...]:
        """The topics whose share moved."""
        return tuple(each for each in self.moved if each.kind is Kind.TOPIC)

    def to_mapping(self) -> dict[str, Any]:
        """The verdict with all figures as plain JSON values."""
        return {
            **asdict(self),
            "findings": [
                {**asdict(each), "severity": each.severity.name.lower()} for each in self.findings
            ],
            "severity": self.severity.name.lower(),
            "retrain": self.retrain,
            "reasons": list(self.reasons),
        }

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> Self:
        """Reads what `to_mapping` gave."""
        findings = tuple(
            Finding(
                **{
                    **each,
                    "kind": Kind(each["kind"]),
                    "severity": Severity[each["severity"].upper()],
                }
            )
            for each in value["findings"]
        )
        untold = tuple(Untold(**{**each, "kind": Kind(each["kind"])}) for each in value["untold"])
        return cls(look=value["look"], level=value["level"], findings=findings, untold=untold)


def in_short(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What a policy's summary, and the book of runs, keep of `Drift.to_mapping`."""
    if found is None:
        return None
    names = ("look", "severity", "retrain", "reasons")
    moved = [each for each in found["findings"] if each["severity"] != Severity.NONE.name.lower()]
    clusters = [each["where"] for each in moved if each["kind"] == Kind.TOPIC]
    return {**{name: found[name] for name in names}, "clusters": clusters}


@one_thread()
def compare(
    reference: Window, current: Window, arms: Sequence[Arm], asked: Asked | None = None
) -> Drift:
    """Compares a window with the one that the active policy was trained on."""
    asked = asked or Asked()
    rng = np.random.default_rng(asked.seed)
    found = [
        *drift_mix.mix(reference.queries, current.queries, rng),
        *drift_arms.changes(reference, current, arms),
    ]
    tested = [each for each in found if isinstance(each, Tested)]
    level = asked.level * share_of(asked.look)
    adjusted = holm(np.array([each.change.p_value for each in tested], np.float64))
    findings = [
        _finding(each, float(p), level, asked.floors[each.kind])
        for each, p in zip(tested, adjusted, strict=True)
    ]
    return Drift(
        look=asked.look,
        level=level,
        findings=tuple(sorted(findings, key=lambda each: (-each.severity, each.p_adjusted))),
        untold=tuple(each for each in found if isinstance(each, Untold)),
    )


def _finding(tested: Tested, p_adjusted: float, level: float, floor: Floor) -> Finding:
    kind, found = tested.kind, tested.change
    told = expm1 if kind.is_ratio else float
    level_of = exp if kind.is_ratio else float
    ends = found.interval() if isfinite(found.error) else (-inf, inf)
    low, high = (told(each) if isfinite(each) else None for each in ends)
    return Finding(
        kind=kind,
        where=tested.where,
        before=level_of(found.before),
        now=level_of(found.now),
        change=told(found.change),
        low=low,
        high=high,
        p_value=found.p_value,
        p_adjusted=p_adjusted,
        n_before=found.n_before,
        n_now=found.n_now,
        severity=_severity(kind, found.change, floor) if p_adjusted <= level else Severity.NONE,
    )


def _severity(kind: Kind, change: float, floor: Floor) -> Severity:
    minor, major = floor.minor, floor.major
    if kind.is_ratio:
        minor, major = log(1.0 + minor), log(1.0 + major)
    if abs(change) < minor:
        return Severity.NONE
    return Severity.MAJOR if abs(change) >= major else Severity.MINOR
