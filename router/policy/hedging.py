"""Is a mean at least a floor? A test by betting on n values that is as sharp as an exact one.

A capital of 1 is bet on values to exceed the floor. While their mean is below it, the capital
is a nonnegative supermartingale, so that it ends at 1 / level or more with a chance of at most
the level, whatever the values' distribution (Waudby-Smith & Ramdas 2023, "Estimating means of
bounded random variables by betting").

After n values nothing else counts, so the bets aim at just that: with the capital K, and r
values left, they are those that turn K into 1 / level with the greatest chance, in the limit
of many small values: phi(d) / (level sigma sqrt(r)) in dollars, where Phi(d) = level K
(quantile hedging, Foellmer & Leukert 1999). On coin flips this has the power of the exact
binomial test, where bets for growth need half as much data again.

Controls are bet against, as in prediction-powered inference (Angelopoulos et al. 2023): a
share of each, whose mean is zero, is taken off its value. The share is tuned on the values
before it ("PPI++"), so that the capital stays a supermartingale.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from router.types import Floats, Mask

MOST_LOST = 0.95
"""The share of the capital that the worst value may cost."""

MOST_SHARE = 1.5
"""The most of a control that is taken off a value."""

_BLOCK_SHARE, _FIRST_BLOCK = 0.05, 8
_GUESS_ROWS, _SHARE_ROWS = 10.0, 20.0
_GUESS_CONTROL = 0.03


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Values (n, k) of n interactions drawn alike, in random order, under k candidates.

    Values are `least` or more. `controls` (n, k) have mean zero exactly, and are
    `most_control` or less; None is none. `variance` is a guess of a value's, which the
    values soon replace.
    """

    values: Floats
    controls: Floats | None = None
    least: float = 0.0
    most_control: float = 1.0
    variance: float = 0.15

    def __len__(self) -> int:
        return len(self.values)

    def column(self, place: int) -> Sample:
        """The sample of one candidate, with k = 1."""
        one = slice(place, place + 1)
        return Sample(
            values=self.values[:, one],
            controls=None if self.controls is None else self.controls[:, one],
            least=self.least,
            most_control=self.most_control,
            variance=self.variance,
        )

    @cached_property
    def shares(self) -> Floats:
        """The share of its control that is best taken off each candidate's values, (k,)."""
        if self.controls is None or len(self) < 2:
            return np.zeros(self.values.shape[1])
        return _share(_Sums.of(self.values, self.controls))

    @cached_property
    def corrected(self) -> Floats:
        """The values less what their controls explain, (n, k)."""
        return self.values if self.controls is None else self.values - self.shares * self.controls

    @cached_property
    def blocks(self) -> tuple[_Block, ...]:
        """Runs of values on which the bets stay the same, with the sums before them."""
        ends = _ends(len(self))
        controls = np.zeros((len(self), 1)) if self.controls is None else self.controls
        before, blocks = _Sums.of(self.values[:0], controls[:0]), []
        for start, end in pairwise(ends):
            values, tied = self.values[start:end], controls[start:end]
            blocks.append(_Block(before=before, left=len(self) - start, values=values, tied=tied))
            before = before + _Sums.of(values, tied)
        return tuple(blocks)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sums:
    """Sums of values, controls and their products; arrays of shape (k,)."""

    rows: int
    value: Floats
    squared: Floats
    control: Floats
    control_squared: Floats
    product: Floats

    @classmethod
    def of(cls, values: Floats, controls: Floats) -> _Sums:
        return cls(
            rows=len(values),
            value=values.sum(axis=0),
            squared=np.einsum("ij,ij->j", values, values),
            control=controls.sum(axis=0),
            control_squared=np.einsum("ij,ij->j", controls, controls),
            product=np.einsum("ij,ij->j", *np.broadcast_arrays(values, controls)),
        )

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(
            rows=self.rows + other.rows,
            value=self.value + other.value,
            squared=self.squared + other.squared,
            control=self.control + other.control,
            control_squared=self.control_squared + other.control_squared,
            product=self.product + other.product,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """Values and controls (b, k) on which the bets stay the same, and how many are left."""

    before: _Sums
    left: int
    values: Floats
    tied: Floats


def capital(sample: Sample, floor: ArrayLike, level: float) -> Floats:
    """What is left of a capital of 1 that is bet on the means to exceed the floors, (k,).

    `floor` is one number, or one per candidate; with a single candidate, any number of them.
    """
    floors = np.asarray(floor, np.float64)
    held = np.ones(np.broadcast_shapes(floors.shape, sample.values.shape[1:]))
    for block in sample.blocks:
        bet, against = _bets(sample, block, floors, held, level)
        growth = block.values * bet + (1.0 - bet * floors)
        if sample.controls is not None:
            growth -= block.tied * against
        held = held * growth.prod(axis=0)
    return held


def passed(sample: Sample, floor: ArrayLike, level: float) -> Mask:
    """Which means pass their floors, (k,): one that is below passes with a chance of `level`."""
    certain = np.asarray(floor) <= sample.least
    return np.asarray(certain | (capital(sample, floor, level) >= 1.0 / level))


def lower_bound(sample: Sample, level: float, *, most: float = 1.0, points: int = 1_000) -> float:
    """A number that the mean of one candidate is below with a chance of at most `level`.

    It is the greatest of evenly spaced floors that is passed with all floors below it.
    """
    floors = np.linspace(sample.least, most, points, endpoint=False)[1:]
    failed = np.flatnonzero(~passed(sample, floors, level))
    first = int(failed[0]) if len(failed) else len(floors)
    return float(floors[first - 1]) if first else sample.least


def _bets(
    sample: Sample, block: _Block, floors: Floats, held: Floats, level: float
) -> tuple[Floats, Floats]:
    """What is bet on the values and against the controls, as shares of the capital, (k,)."""
    chance = np.clip(level * held, 1e-14, 1.0 - 1e-9)
    density = np.exp(-0.5 * ndtri(chance) ** 2) / np.sqrt(2.0 * np.pi)
    wanted = density / (chance * np.sqrt(block.left))
    spread, worst = _Spread.about(floors, block.before, sample), floors - sample.least
    share = _share(block.before) if sample.controls is not None else np.zeros(1)
    bet = np.minimum(wanted / spread.of(share), MOST_LOST / np.maximum(worst, 1e-9))
    bet = np.where((held < 1.0 / level) & (held > 1e-12), bet, 0.0)
    if sample.controls is None:
        return bet, share
    against = np.minimum(bet * share, (MOST_LOST - bet * worst) / sample.most_control)
    against = np.maximum(against, 0.0)
    return np.minimum(bet, spread.bet(wanted, against)), against


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spread:
    """Mean squares and product of values about the floor and of controls, (k,)."""

    value: Floats
    product: Floats
    control: Floats

    @classmethod
    def about(cls, floors: Floats, sums: _Sums, sample: Sample) -> _Spread:
        """Those of the values so far, drawn to a guess that leaves `variance` at a share of 1."""
        guess, rows = _GUESS_ROWS * sample.variance, _GUESS_ROWS + sums.rows
        tied = 0.0 if sample.controls is None else guess
        squared = sums.squared - 2.0 * floors * sums.value + sums.rows * floors**2
        return cls(
            value=(guess + tied + np.maximum(squared, 0.0)) / rows,
            product=(tied + sums.product - floors * sums.control) / rows,
            control=(tied + sums.control_squared) / rows,
        )

    def of(self, share: Floats) -> Floats:
        """The deviation of values less a share of their controls, (k,)."""
        left = self.value - 2.0 * share * self.product + share**2 * self.control
        return np.sqrt(np.maximum(left, 1e-12))

    def bet(self, wanted: Floats, against: Floats) -> Floats:
        """The bet with which the capital deviates as `wanted`, given what is bet against, (k,).

        It counts where a control may cost so much that little can be bet against it: then
        a full bet on the values would go unhedged.
        """
        tied = against * self.product
        inside = tied**2 - self.value * (against**2 * self.control - wanted**2)
        return (tied + np.sqrt(np.maximum(inside, 0.0))) / np.maximum(self.value, 1e-12)


def _share(sums: _Sums) -> Floats:
    """The regression of values on controls, drawn to 1, which is right for calibrated ones."""
    rows = max(sums.rows, 1)
    together = sums.product - sums.value * sums.control / rows
    guess = _SHARE_ROWS * (sums.control_squared / rows if sums.rows else _GUESS_CONTROL)
    share = (together + guess) / np.maximum(sums.control_squared + guess, 1e-12)
    return np.clip(share, 0.0, MOST_SHARE)


def _ends(rows: int) -> list[int]:
    """Where the blocks end: short ones at first and at last, 5 % of what is left between."""
    ends = [0]
    while ends[-1] < rows:
        most = max(_FIRST_BLOCK, ends[-1] // 2)
        block = min(most, max(1, int(_BLOCK_SHARE * (rows - ends[-1]))))
        ends.append(ends[-1] + block)
    return ends


def needed(variance: float, gap: float, level: float) -> int:
    """About how many values let a mean pass a floor that it exceeds by `gap`, half of the time."""
    return int(np.ceil(float(ndtri(1.0 - level)) ** 2 * variance / gap**2))
