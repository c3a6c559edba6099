"""Bets on the difference between two policies among which chance decides.

With chance p the canary decides, else the active policy; y is how bad that turned out, in
[0, 1]. For any m that was known before,

    (y - m) where the canary decided, -p / (1 - p) (y - m) where it did not

has mean p (canary's mean - active's mean), whatever queries come and however their mix drifts.
Bets on it are therefore at fair odds where the two are equal, and lose where the canary is
better: an e-process, valid at any look and for any plan of shares. Taking the active policy's
mean so far as m makes it as precise as a comparison with a known mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np

from router.policy.betting import DROPS, Capital
from router.types import Floats, Mask

METRICS = ("accuracy", "cost", "latency", "errors")
LEAST_ACTIVE = 20
"""Outcomes of the active policy before which nothing is bet on a metric."""

LEAST_VARIANCE = 1e-3
MOST_ACTIVE = 10.0
_STAKE = 0.9
_ODDS = np.array(DROPS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Margins:
    """How much worse still counts as no worse: shares of all decisions, and of the mean cost."""

    accuracy: float = 0.02
    cost: float = 0.05
    latency: float = 0.02
    errors: float = 0.01

    def at(self, mean: Floats) -> Floats:
        """The margins (..., 4) where the active policy's means are those (..., 4)."""
        fixed = np.array([self.accuracy, 0.0, self.latency, self.errors])
        return np.asarray(fixed + np.array([0.0, self.cost, 0.0, 0.0]) * mean)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Count, mean and sum of squares around it of the active policy's badness, (..., 4)."""

    count: Floats
    mean: Floats
    spread: Floats

    @property
    def variance(self) -> Floats:
        """At least 0.001."""
        return np.maximum(self.spread / np.maximum(self.count, 1.0), LEAST_VARIANCE)

    def joined(self, y: Floats, counts: Mask) -> Moments:
        """With one more outcome where it `counts` (Welford)."""
        count = self.count + counts
        step = np.where(counts, y - self.mean, 0.0)
        mean = self.mean + step / np.maximum(count, 1.0)
        spread = self.spread + np.where(counts, step * (y - mean), 0.0)
        return Moments(count=count, mean=mean, spread=spread)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bets:
    """Evidence per metric; every array may have more axes of runs in front of the metrics.

    The streams (1 + s, ..., 4) of `capital` are that the canary is worse, then that it is no
    worse within each of `slacks` times the margins. `peak` is the most that each ever was, and
    `worse` (...) the most that the first one's weighted mean over the metrics was.
    """

    slacks: tuple[float, ...]
    active: Moments
    capital: Capital
    peak: Floats
    worse: Floats

    @classmethod
    def of(cls, slacks: tuple[float, ...], *runs: int) -> Self:
        """No evidence yet, of that many runs at once."""
        empty, streams = np.zeros((*runs, len(METRICS))), (1 + len(slacks), *runs, len(METRICS))
        return cls(
            slacks=slacks,
            active=Moments(count=empty, mean=empty, spread=empty),
            capital=Capital.of(*streams),
            peak=np.ones(streams),
            worse=np.ones(runs),
        )

    def observe(self, bad: Floats, canary: Mask, chance: Floats, margins: Margins) -> Bets:
        """With one more decision of each run, (...): its badness (..., 4), NaN where unknown."""
        known = ~np.isnan(bad)
        y, side, odds = np.where(known, bad, 0.0), canary[..., None], _odds(chance)[..., None]
        plays = known & (self.active.count >= LEAST_ACTIVE)
        capital = self.capital.bet(np.where(plays, self._stakes(y, side, odds, margins), 0), _ODDS)
        total = capital.total
        return replace(
            self,
            capital=capital,
            peak=np.maximum(self.peak, total),
            worse=np.maximum(self.worse, total[0] @ WEIGHTS),
            active=self.active.joined(y, known & ~side),
        )

    def _stakes(self, y: Floats, side: Mask, odds: Floats, margins: Margins) -> Floats:
        """What each stream's bet gains per unit of its odds, (1 + s, ..., 4)."""
        m, variance = self.active.mean, self.active.variance
        apart = y - m
        gain = np.where(side, apart, -odds * apart)
        most = _most(np.maximum(m, odds * (1.0 - m)))
        found = [gain * np.minimum(1.0 / variance, most)]
        for slack in self.slacks:
            margin = slack * margins.at(m)
            gain = np.where(side, margin - apart, odds * apart)
            best = margin / variance / _ODDS[-1]
            most = _most(np.maximum(1.0 - m - margin, odds * m))
            found.append(gain * np.minimum(best, most))
        return np.stack(found)

    def to_mapping(self) -> dict[str, Any]:
        """The bets of one run as plain JSON values."""
        return {
            "slacks": list(self.slacks),
            "active": _plain(self.active),
            "capital": _plain(self.capital),
            "peak": self.peak.tolist(),
            "worse": float(self.worse),
        }

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> Self:
        """Reads what `to_mapping` wrote. Raises KeyError, TypeError or ValueError."""
        active, capital = value["active"], dict(value["capital"])
        seen = int(capital.pop("seen"))
        return cls(
            slacks=tuple(value["slacks"]),
            active=Moments(**{name: np.array(some, float) for name, some in active.items()}),
            capital=Capital(
                seen=seen, **{name: np.array(some, float) for name, some in capital.items()}
            ),
            peak=np.array(value["peak"], float),
            worse=np.array(value["worse"], float),
        )


WEIGHTS = np.array([0.4, 0.2, 0.2, 0.2])
"""How evidence that the canary is worse is parted among the metrics: their mean is an e-value."""


def _odds(chance: Floats) -> Floats:
    return chance / (1.0 - chance)


def _most(loss: Floats) -> Floats:
    """The greatest scale of a stake at which no outcome can take all of it."""
    return np.asarray(_STAKE / (_ODDS[-1] * np.maximum(loss, 1e-6)))


def _plain(arrays: Moments | Capital) -> dict[str, Any]:
    return {each.name: np.asarray(getattr(arrays, each.name)).tolist() for each in fields(arrays)}


def thinning(chance: float) -> float:
    """The share of the active policy's decisions to look at: ten for each of the canary's do."""
    return min(MOST_ACTIVE * chance / (1.0 - chance), 1.0) if chance < 1.0 else 1.0


def thinned(chance: float) -> float:
    """The chance of the canary's side among the decisions that are looked at."""
    return chance / (chance + (1.0 - chance) * thinning(chance))
