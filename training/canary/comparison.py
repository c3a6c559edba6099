"""What was seen of a canary and of the active policy beside it, metric by metric.

Chance decides the side, so plain means are comparable: no slo, tenant or hour of the day is
on one side alone. Shares change with time and so may the mix; means are compared within each
step of the share, and the bets of `canary_bets` are fair under any plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from router.errors import InvalidInput
from router.types import Floats
from training.canary.bets import METRICS, Bets, Margins

CONFIDENCE = 0.95

_CAP = 4.0
_NAMES = {"accuracy": "accuracy", "cost": "cost_usd", "latency": "slow", "errors": "failed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What came of one decision; None where it is not known.

    `chance` is how probable the canary's side was. `bound_s` is the slo's latency bound; where
    there is none, no answer is slow.
    """

    canary: bool
    chance: float
    score: float | None = None
    cost_usd: float | None = None
    latency_s: float | None = None
    bound_s: float | None = None
    failed: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart:
    """The means of both sides and their difference, with an interval valid at any look."""

    canary: float
    active: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What is known of a metric; `outcomes` are the canary's.

    `e_worse` is the evidence that the canary is worse, `e_within` the most there ever was that
    it is not by more than the step's margin; either is decisive from 20 on.
    """

    metric: str
    outcomes: int
    e_worse: float
    e_within: float
    apart: Apart | None

    def __str__(self) -> str:
        found = self.apart
        if found is None:
            return f"{self.metric} unknown"
        if self.metric == "cost_usd":
            return f"cost_usd {found.difference:+.2e} (95 % {found.low:+.1e}..{found.high:+.1e})"
        return f"{self.metric} {found.difference:+.3f} (95 % {found.low:+.3f}..{found.high:+.3f})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All that was seen of a canary and of the active policy beside it. Immutable.

    `cost_usd` is the active policy's mean cost so far, as (value, count). `sums` (k, 2, 4, 3)
    count, add and add the squares of what was seen per step, side and metric.
    """

    bets: Bets
    cost_usd: tuple[float, int] = (0.0, 0)
    sums: Floats = field(default_factory=lambda: np.zeros((1, 2, len(METRICS), 3)))

    @classmethod
    def of(cls, slacks: tuple[float, ...]) -> Self:
        """Nothing seen yet; `slacks` times the margins are what is to be told."""
        return cls(bets=Bets.of(slacks))

    def next_step(self) -> Comparison:
        """The same, as the share becomes another."""
        return replace(self, sums=np.concatenate((self.sums, np.zeros_like(self.sums[:1]))))

    def observe(self, seen: Iterable[Seen], margins: Margins) -> Comparison:
        """With what was seen of more decisions, in this order; chances of 0 and 1 tell nothing."""
        found, sums = self, self.sums.copy()
        for each in seen:
            if 0.0 < each.chance < 1.0:
                values = found.values(each)
                _add(sums[-1, int(each.canary)], values)
                found = found.betting(each, values, margins)
        return replace(found, sums=sums)

    def values(self, seen: Seen) -> Floats:
        """Score, cost, whether slow and whether failed, (4,), NaN where unknown."""
        slow = None
        if seen.latency_s is not None and seen.bound_s is not None:
            slow = seen.latency_s > seen.bound_s
        return np.array([seen.score, seen.cost_usd, slow, seen.failed], np.float64)

    def betting(self, seen: Seen, values: Floats, margins: Margins) -> Comparison:
        """With the bets on one more decision played."""
        bets = self.bets.observe(
            self._badness(values), np.array(seen.canary), np.array(seen.chance), margins
        )
        if seen.canary:
            return replace(self, bets=bets)
        return replace(self, bets=bets, cost_usd=_mean(self.cost_usd, seen.cost_usd))

    def _badness(self, values: Floats) -> Floats:
        """The same in [0, 1], bad upwards; costs count up to four times the mean."""
        accuracy, cost, slow, failed = values
        most = _CAP * self.cost_usd[0]
        capped = min(cost / most, 1.0) if most > 0.0 else np.nan
        return np.array([1.0 - accuracy, capped, slow, failed])

    def outcomes(self, *, canary: bool) -> int:
        """Of how many decisions of a side anything is known."""
        return int(self.sums[:, int(canary), :, 0].max(axis=-1).sum())

    def figures(self, place: int) -> tuple[Figure, ...]:
        """Per metric, over all steps; `place` is the one whose margins count."""
        return tuple(self._figure(number, place) for number in range(len(METRICS)))

    def _figure(self, number: int, place: int) -> Figure:
        name, total = _NAMES[METRICS[number]], self.bets.capital.total
        count = self.sums[:, :, number, 0]
        known = (count >= 2).all(axis=1)
        return Figure(
            metric=name,
            outcomes=int(count[:, 1].sum()),
            e_worse=float(total[0, number]),
            e_within=float(self.bets.peak[1 + place, number]),
            apart=_apart(self.sums[known, :, number]) if known.any() else None,
        )

    def to_mapping(self) -> dict[str, Any]:
        """The comparison as plain JSON values, about 4 kB."""
        own = {"cost_usd": self.cost_usd, "sums": self.sums.tolist()}
        return {"bets": self.bets.to_mapping(), **own}

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> Self:
        """Reads what `to_mapping` wrote, bit for bit. Raises InvalidInput for anything else."""
        try:
            cost, costs = value["cost_usd"]
            return cls(
                bets=Bets.from_mapping(value["bets"]),
                cost_usd=(float(cost), int(costs)),
                sums=np.array(value["sums"], float).reshape(-1, 2, len(METRICS), 3),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(
                f"not a canary's figures of this version ({error!r}); begin anew", field="canary"
            ) from None


def _add(sums: Floats, values: Floats) -> None:
    """Adds values (4,) to counts, sums and sums of squares (4, 3), but what is unknown."""
    known = ~np.isnan(values)
    sums[known] += np.stack((np.ones(known.sum()), values[known], values[known] ** 2), axis=-1)


def _apart(sums: Floats) -> Apart:
    """Means and difference from sums (k, 2, 3), each step weighed by the canary's outcomes.

    The interval is an asymptotic confidence sequence, a normal mixture that is tightest
    around 500 outcomes (Robbins 1970; Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2021).
    """
    count, mean = sums[..., 0], sums[..., 1] / sums[..., 0]
    variance = np.maximum(sums[..., 2] / count - mean**2, 0.0) * count / (count - 1.0)
    weight = count[:, 1] / count[:, 1].sum()
    active, canary = weight @ mean
    error = np.sqrt(weight**2 @ (variance / count).sum(axis=-1))
    half = error * anytime_errors(float(count[:, 1].sum()))
    apart = canary - active
    found = (canary, active, apart, apart - half, apart + half)
    return Apart(**dict(zip(Apart.__slots__, map(float, found), strict=True)))


def anytime_errors(count: float, tightest: float = 500.0) -> float:
    """How many standard errors an interval of 95 % reaches that holds at every look."""
    ratio = count / tightest
    level = (1.0 - CONFIDENCE) ** 2
    return float(np.sqrt((1.0 + 1.0 / ratio) * np.log((1.0 + ratio) / level)))


def _mean(known: tuple[float, int], value: float | None) -> tuple[float, int]:
    mean, count = known
    return known if value is None else (mean + (value - mean) / (count + 1), count + 1)
