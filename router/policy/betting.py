"""Bets at fair odds that scores fall short of a floor: an e-process, by capital.

While each score's mean, given those before it, is at least the floor, what bets make of a
capital of 1 is a nonnegative supermartingale, so the chance that it ever reaches
1 / alpha is at most alpha, however often one looks (Ville 1939; Waudby-Smith & Ramdas
2023, "Estimating means of bounded random variables by betting").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from router.types import Floats, Mask

DROPS = (0.015, 0.04)
"""Drops below the floor at which the capital of one bet each grows fastest."""

SHARES = np.array([1.0, 8.0]) / 9.0
"""How what is put at stake is parted among the bets."""

AT_ONCE = 0.2
"""The share of the capital that is at stake from the first outcome on."""

OPENING, CLOSING = 1.8, 1.5
"""A closed bet opens once what it would have won since its worst moment is so many nats; an
open one closes once it has lost that many of what was paid."""

MOST_CAPITAL = 1e100
"""What a bet wins beyond it is given away, so that no stream overflows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capital:
    """What is kept and what is at stake, of any number of streams at once.

    With b bets: `kept` (...) is at no stake, `staked` (b, ...) is what each bet has become,
    `paid` (b, ...) what it was opened with, 0 while it is closed. `signal` (b, ...) is the
    CUSUM of a closed bet in nats, `openings` (b, ...) counts how often it was opened, and
    `since` (b, ...) how many scores had been seen then; `seen` of them so far. Each
    opening stakes less of what is kept, so that a drop after any time can still be found.
    """

    kept: Floats
    staked: Floats
    paid: Floats
    signal: Floats
    openings: Floats
    since: Floats
    seen: int = 0

    @classmethod
    def of(cls, *streams: int) -> Self:
        """A capital of 1 for each stream of an array of that shape."""
        empty = np.zeros((len(DROPS), *streams))
        staked = empty + AT_ONCE * _column(SHARES, empty)
        kept = np.full(streams, 1.0 - AT_ONCE)
        return cls(kept=kept, staked=staked, paid=staked, signal=empty, openings=empty, since=empty)

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> Self:
        """Reads what `to_mapping` wrote. Raises KeyError, TypeError or ValueError."""
        arrays = {name: np.array(value[name], float) for name in _ARRAYS}
        if any(arrays[name].shape != (len(DROPS),) for name in _ARRAYS if name != "kept"):
            raise ValueError(f"there are not {len(DROPS)} bets")
        return cls(seen=int(value["seen"]), **arrays)

    def to_mapping(self) -> dict[str, Any]:
        """The capital of one stream as plain JSON values."""
        return {"seen": self.seen} | {name: getattr(self, name).tolist() for name in _ARRAYS}

    @property
    def total(self) -> Floats:
        """The e-value of each stream, shape (...)."""
        return np.asarray(self.kept + self.staked.sum(axis=0))

    def bet(self, shortfall: ArrayLike, odds: Floats) -> Capital:
        """The capital after one more score of each stream, `shortfall` (...) below the floor.

        `odds` (b,) are those of `odds_at`. Bets open and close by what was seen so far, and
        play from the next score on.
        """
        growth = 1.0 + np.multiply.outer(odds, shortfall)
        is_open = self.paid > 0.0
        staked = np.minimum(self.staked * growth, MOST_CAPITAL)
        signal = np.where(is_open, 0.0, np.maximum(self.signal + np.log(growth), 0.0))
        closes = is_open & (staked < self.paid * np.exp(-CLOSING))
        after = replace(
            self,
            kept=self.kept + np.where(closes, staked, 0.0).sum(axis=0),
            staked=np.where(closes, 0.0, staked),
            paid=np.where(closes, 0.0, self.paid),
            signal=signal,
            seen=self.seen + 1,
        )
        opens = signal >= OPENING
        return after.opened(opens) if opens.any() else after

    def opened(self, opens: Mask) -> Capital:
        """The capital with bets opened where `opens` (b, ...) says so."""
        openings = self.openings + opens
        share = np.where(opens, 1.6 / (2.0 + openings), 0.0) * _column(SHARES, opens)
        stake = share * self.kept
        return replace(
            self,
            kept=self.kept - stake.sum(axis=0),
            staked=self.staked + stake,
            paid=np.where(opens, stake, self.paid),
            signal=np.where(opens, 0.0, self.signal),
            openings=openings,
            since=np.where(opens, float(self.seen), self.since),
        )


_ARRAYS = ("kept", "staked", "paid", "signal", "openings", "since")


def _column(values: Floats, like: Floats | Mask) -> Floats:
    return values.reshape(-1, *(1,) * (like.ndim - 1))


def odds_at(floor: float) -> Floats:
    """What each bet pays per unit that a score falls short of the floor, shape (b,).

    A drop over the variance at the floor makes the capital of binary scores grow fastest;
    below 1 / (1 - floor), no score can take all that is at stake.
    """
    best = np.array(DROPS) / max(floor * (1.0 - floor), 1e-3)
    return np.minimum(best, 0.9 / max(1.0 - floor, 1e-3))
