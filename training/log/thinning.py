"""Thinning: of more rows than a fit gains from, a sample, and what each row of it stands for.

Learning sees at most 1,024 places and some hundred leaves, so that beyond some hundred
thousand rows more of them change nothing but the time it takes. What is rare stays whole:
scores, where few answers have one, and arms that are seldom picked, which tell most of what
another choice had brought. To keep a row with a chance that hangs on its arm is one more
choice of whoever logged it, so the propensity becomes that of being picked and kept, and
weights stay what they were. Whatever is asked of queries as they come, such as a policy's
trade-offs, reads the typical ones: a share of all texts, drawn by their hash alone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from router.types import Floats, Mask
from training.log.dataset import Indices, arms_of, floats, microseconds
from training.log.splits import normalised


@dataclass(frozen=True, slots=True, kw_only=True)
class Most:
    """About how many rows a fit gains from: `typical` ones, and more that are rare."""

    typical: int = 100_000
    scored: int = 120_000
    unscored: int = 40_000

    held: int = 20_000
    held_scored: int = 10_000

    @property
    def taught(self) -> int:
        """So many rows are never thinned."""
        return self.typical + self.scored + self.unscored


MOST = Most()
_STEP = np.uint64(0x9E3779B97F4A7C15)


def thinned(table: pa.Table, taught: Mask, seed: int = 0, most: Most = MOST) -> pa.Table:
    """A log's table of which the rows of a mask (n,) are thinned, and the others stay.

    A column `kept` tells which rows stayed, and `typical` those of typical texts; the table
    itself is as long as before, with the propensity of being picked and kept. What was asked
    at once with one text, as attempts of a decision are, stays or goes together.
    """
    kept, chance = np.ones(len(table), bool), np.ones(len(table))
    typical = np.ones(len(table), bool)
    rows = np.flatnonzero(taught)
    if len(rows) > most.taught:
        units = _Units.of(table.take(rows), seed)
        share = most.typical / len(rows)
        chance[rows] = units.together(_chances(table.take(rows), share, most))
        kept[rows] = units.drawn < chance[rows]
        typical[rows] = units.text < share
    return (
        table.set_column(
            table.schema.get_field_index("propensity"),
            "propensity",
            pa.array(floats(table, "propensity") * chance, from_pandas=True),
        )
        .append_column("typical", pa.array(typical))
        .append_column("kept", pa.array(kept))
    )


def some_held(table: pa.Table, held: Mask, seed: int = 0, most: Most = MOST) -> Mask:
    """Which of the rows of a mask (n,) are enough to judge by, whatever their arm and score."""
    rows = np.flatnonzero(held)
    scored = max(int(np.asarray(table["score"].is_valid())[rows].sum()), 1)
    share = max(most.held / max(len(rows), 1), most.held_scored / scored)
    stays = held.copy()
    if share < 1.0:
        stays[rows] = _Units.of(table.take(rows), seed).drawn < share
    return stays


@dataclass(frozen=True, kw_only=True)
class _Units:
    """What n rows were asked together with, and numbers in [0, 1) that are uniform.

    `text` (n,) is one per text and `drawn` (n,) one per unit, the same for the first time
    that a text was asked.
    """

    unit: Indices
    text: Floats
    drawn: Floats

    @classmethod
    def of(cls, table: pa.Table, seed: int) -> _Units:
        encoded = table["query"].dictionary_encode().combine_chunks()
        code = np.asarray(encoded.indices.to_numpy(), np.intp)
        hashes = _hashes(encoded.dictionary.to_pylist(), seed)
        times, at = np.unique(microseconds(table), return_inverse=True)
        _, unit = np.unique(code * len(times) + at, return_inverse=True)
        first = np.full(len(hashes), len(times), np.intp)
        np.minimum.at(first, code, at)
        mixed = _mixed(hashes[code] ^ (times[at].astype(np.uint64) * _STEP))
        text = _unit_interval(hashes)[code]
        drawn = np.where(at == first[code], text, _unit_interval(mixed))
        return cls(unit=unit, text=text, drawn=drawn)

    def together(self, chance: Floats) -> Floats:
        """The greatest chance (n,) of the rows of each one's unit."""
        most = np.zeros(int(self.unit.max()) + 1)
        np.maximum.at(most, self.unit, chance)
        return np.asarray(most[self.unit])


def _chances(table: pa.Table, share: float, most: Most) -> Floats:
    """The chance (n,) to stay: `share`, or more of what is rare, by arm and score."""
    arm, scored = arms_of(table)[1], np.asarray(table["score"].is_valid())
    chance = np.full(len(table), share)
    for side, total in ((scored, most.scored), (~scored, most.unscored)):
        count = np.bincount(arm[side], minlength=1)
        wanted = _level(count, total) / np.maximum(count, 1)
        chance[side] = np.minimum(np.maximum(share, wanted), 1.0)[arm[side]]
    return chance


def _level(count: Indices, total: int) -> float:
    """The bound that leaves a total of so many where no count is above it."""
    if count.sum() <= total:
        return float(count.max(initial=0))
    rising = np.sort(count)
    below = np.concatenate(([0], np.cumsum(rising)[:-1]))
    levels = (total - below) / np.arange(len(count), 0, -1)
    return float(levels[np.flatnonzero(levels <= rising)[0]])


def _hashes(texts: list[str], seed: int) -> NDArray[np.uint64]:
    salt = f"thinning {seed}".encode()
    told = b"".join(
        hashlib.blake2b(normalised(text).encode(errors="replace"), digest_size=8, key=salt).digest()
        for text in texts
    )
    return np.frombuffer(told, np.uint64).copy()


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Splitmix64's finaliser (Steele, Lea & Flood 2014): every bit hangs on every other."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)))


def _unit_interval(values: NDArray[np.uint64]) -> Floats:
    return np.asarray((values >> np.uint64(11)).astype(np.float64) / float(1 << 53))
