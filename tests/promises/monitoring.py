"""How a monitor does on simulated streams: false alarms at the floor, and time to find a drop.

Every stream is looked at after each outcome. `python -m tests.promises.monitoring` prints
each case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from router.policy.betting import Capital, odds_at
from router.types import Floats

FLOORS = (0.7, 0.85, 0.95)
STREAMS = 1_000
LONG = 10_000
GOOD = 5_000
DROP = 0.05
WITHIN = 1_500
AIM = 900
ALARM_AT = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """How scores are drawn: `before` outcomes of mean `good`, then of mean `after`."""

    good: float
    after: float
    before: int = 0
    fractional: bool = False

    def draw(self, seen: int, streams: int, rng: np.random.Generator) -> Floats:
        """One score for each stream, shape (s,), after so many: right or wrong, or a Beta."""
        mean = self.good if seen < self.before else self.after
        if self.fractional:
            return rng.beta(4.0 * mean, 4.0 * (1.0 - mean), streams)
        return (rng.random(streams) < mean).astype(float)


def alarms(scores: Scores, floor: float, length: int, streams: int, seed: int) -> Floats:
    """After how many outcomes each stream's monitor says broken, shape (s,); inf for never."""
    rng, odds = np.random.default_rng(seed), odds_at(floor)
    capital, found = Capital.of(streams), np.full(streams, np.inf)
    for seen in range(length):
        capital = capital.bet(floor - scores.draw(seen, streams, rng), odds)
        found[(capital.total >= ALARM_AT) & np.isinf(found)] = seen + 1
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class FalseAlarms:
    """The share of streams at the floor that were ever called broken."""

    floor: float
    fractional: bool
    share: float

    def __str__(self) -> str:
        kind = "fractional" if self.fractional else "binary"
        return f"{self.floor:g} {kind} {self.share:.1%}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """How many outcomes after a drop it was found, over the streams without a false alarm.

    `quantiles` are those of 0.5 and 0.9; `within` is the share found within 1,500.
    """

    floor: float
    history: str
    quantiles: tuple[float, float]
    within: float

    def __str__(self) -> str:
        median, most = self.quantiles
        return (
            f"{self.floor:g} {self.history}: median {median:,.0f}, 90 % by {most:,.0f}, "
            f"{self.within:.1%} within {WITHIN:,}"
        )


def false_alarms(streams: int = STREAMS, length: int = LONG, seed: int = 0) -> list[FalseAlarms]:
    """Of each floor, with right or wrong answers and with fractional scores."""
    return [
        FalseAlarms(
            floor=floor,
            fractional=fractional,
            share=float(
                np.isfinite(
                    alarms(
                        Scores(good=floor, after=floor, fractional=fractional),
                        floor,
                        length,
                        streams,
                        seed,
                    )
                ).mean()
            ),
        )
        for floor in FLOORS
        for fractional in (False, True)
    ]


def histories(floor: float) -> dict[str, Scores]:
    """What goes before a drop of 5 points below the floor."""
    low = floor - DROP
    above = min(floor + DROP, 0.99)
    return {
        "from the start": Scores(good=floor, after=low),
        f"after {GOOD:,} at {above:g}": Scores(good=above, after=low, before=GOOD),
        f"after {GOOD:,} at {(floor + above) / 2:g}": Scores(
            good=(floor + above) / 2, after=low, before=GOOD
        ),
        f"after {GOOD:,} at the floor": Scores(good=floor, after=low, before=GOOD),
        "fractional, from the start": Scores(good=floor, after=low, fractional=True),
    }


def detections(
    names: Sequence[int] = range(5), streams: int = STREAMS, seed: int = 1
) -> list[Detection]:
    """Of each floor, with the histories of these places."""
    return [
        detection(floor, name, scores, streams, seed)
        for floor in FLOORS
        for place, (name, scores) in enumerate(histories(floor).items())
        if place in names
    ]


def detection(floor: float, history: str, scores: Scores, streams: int, seed: int) -> Detection:
    """Time from the drop to the alarm; a stream that is not found in 4,000 counts as never."""
    found = alarms(scores, floor, scores.before + 4_000, streams, seed) - scores.before
    delays = found[found > 0]
    median, most = np.quantile(delays, (0.5, 0.9), method="inverted_cdf")
    return Detection(
        floor=floor,
        history=history,
        quantiles=(float(median), float(most)),
        within=float((delays <= WITHIN).mean()),
    )


if __name__ == "__main__":
    for case in (*false_alarms(), *detections()):
        print(case, flush=True)
