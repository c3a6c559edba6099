"""A canary held against the active policy: worse, good enough for a greater share, or wait.

decisions on both sides -> evidence per metric (`canary_comparison`) -> verdict with its figures
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Any

import numpy as np

from router.errors import ConfigurationError
from training.canary.bets import WEIGHTS, Margins
from training.canary.comparison import CONFIDENCE, Comparison, Figure

DECISIVE = 1.0 / (1.0 - CONFIDENCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One share of the traffic, and what it takes to leave it for the next.

    So many decisions of the canary, so much time, and no worse within `slack` times the
    margins: little traffic at stake needs little certainty.
    """

    share: float
    least_decisions: int
    least_time: timedelta
    slack: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a canary's share grows; after the last step it is promoted. Shares rise."""

    steps: tuple[Step, ...] = (
        Step(share=0.01, least_decisions=100, least_time=timedelta(minutes=10), slack=5.0),
        Step(share=0.05, least_decisions=300, least_time=timedelta(minutes=30), slack=2.0),
        Step(share=0.25, least_decisions=1_000, least_time=timedelta(hours=2)),
    )
    margins: Margins = field(default_factory=Margins)

    def place(self, share: float) -> int:
        """The step that a share is at: the last that is not above it."""
        return max((n for n, step in enumerate(self.steps) if step.share <= share), default=0)

    @property
    def slacks(self) -> tuple[float, ...]:
        """Those of the steps."""
        return tuple(step.slack for step in self.steps)


DEFAULT = Plan()

_STEP = re.compile(r"(?P<share>\d+(?:\.\d+)?)%:(?P<count>\d+):(?P<time>\d+)(?P<unit>[mhd])")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


def steps_of(text: str) -> tuple[Step, ...]:
    """Reads steps like `1%:100:10m 5%:300:30m 25%:1000:2h`: share, least decisions, least time.

    A step's slack falls with the root of its share, from 5 to 1. Raises ConfigurationError.
    """
    found = [_STEP.fullmatch(each) for each in text.split()]
    shares = [float(each["share"]) / 100.0 if each else 0.0 for each in found]
    rising = all(before < after for before, after in pairwise((0.0, *shares)))
    if not found or not rising or shares[-1] >= 1.0:
        raise ConfigurationError(
            f"LEADLINE_CANARY_STEPS: {text!r:.80} is not like '1%:100:10m 25%:1000:2h', "
            "with shares that rise"
        )
    return tuple(
        Step(
            share=share,
            least_decisions=int(each["count"]),
            least_time=int(each["time"]) * _UNITS[each["unit"]],
            slack=min(float(int((shares[-1] / share) ** 0.5 + 1e-9)), 5.0),
        )
        for share, each in zip(shares, found, strict=True)
        if each is not None
    )


class Action(StrEnum):
    """What is to be done with a canary now."""

    WAIT = "wait"
    ADVANCE = "advance"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What to do, and the sentence that says why."""

    action: Action
    why: str
    figures: tuple[Figure, ...]


def judge(
    comparison: Comparison,
    plan: Plan,
    *,
    share: float,
    decisions: int,
    since: datetime,
    now: datetime,
) -> Verdict:
    """What to do with a canary at this share, `since` when it made so many `decisions`.

    Rolled back at a false alarm in at most 5 % of the canaries that are no worse, at all looks
    together. It never advances on silence: accuracy and errors must be known, cost and
    latency too where the active policy's are.
    """
    place = plan.place(share)
    step, figures = plan.steps[place], comparison.figures(place)
    if comparison.bets.worse >= DECISIVE:
        worst = int(np.argmax(comparison.bets.peak[0] * WEIGHTS))
        return Verdict(action=Action.ROLLBACK, why=f"worse: {figures[worst]}", figures=figures)
    waits = _waits(comparison, step, decisions, now - since) or _unsure(comparison, place, figures)
    if waits:
        return Verdict(action=Action.WAIT, why=waits, figures=figures)
    why = f"no worse within {step.slack:g} x the margins: {'; '.join(map(str, figures))}"
    return Verdict(action=Action.ADVANCE, why=why, figures=figures)


def _waits(comparison: Comparison, step: Step, decisions: int, passed: timedelta) -> str:
    known = comparison.outcomes(canary=True)
    if decisions < step.least_decisions:
        return f"{decisions:,} of {step.least_decisions:,} decisions at this share"
    if known == 0:
        return f"no outcome of its {decisions:,} decisions is known; report outcomes"
    if passed < step.least_time:
        return f"{passed} of {step.least_time} at this share"
    return ""


def _unsure(comparison: Comparison, place: int, figures: Sequence[Figure]) -> str:
    """Which metrics may still be worse by more than the step's margin."""
    needed = [True, *(comparison.bets.active.count[1:3] > 0.0), True]
    within = comparison.bets.peak[1 + place] >= DECISIVE
    unsure = [
        figure
        for figure, must, holds in zip(figures, needed, within, strict=True)
        if must and not holds
    ]
    return f"not sure yet of {', '.join(map(str, unsure))}" if unsure else ""


def told(verdict: Verdict) -> dict[str, Any]:
    """A verdict as plain JSON values, for whoever asks how the canary does."""
    return {
        "verdict": verdict.action.value,
        "why": verdict.why,
        "figures": {each.metric: asdict(each) for each in verdict.figures},
    }
