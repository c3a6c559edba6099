"""In which order trade-offs are tested, so that testing many is not wrong more often than one.

Each value of a correct answer is a hypothesis, "the mean accuracy under it is below the
floor". They are walked from the dearest down. A walk from the dearest alone must show first
what a log that was made at cheaper values hardly ever tried. So it begins at several values,
which training chose. Each brings a part of the level, the dearest half, the others the rest
in equal parts: a value is tested at what the starts since the last one that failed have
brought together, and what holds hands all of it on to the next (the fallback procedure:
Wiens & Dmitrienko 2005; the multiple starts of Learn then Test: Angelopoulos et al. 2021).

The chance that any value below the floor is taken for one above it is at most the level.
For the first that is, say v, no other such value between it and the last such one before it,
u, was taken: u failed, so that v is tested at no more than what the starts after u up to v
bring. No start counts for two such values, hence all these chances together are at most the
level. It takes that whoever passes at a level passes at every greater one, which `passes`
sees to, and that the starts are known before the interactions are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from router.policy.hedging import Sample, passed
from router.types import Floats, Mask

BETWEEN = (0.75, 0.5, 0.25)
"""Where walks begin beside the dearest: so far from the floor to the most that is expected."""


def starts(expected: Floats | None, floor: float, count: int) -> tuple[int, ...]:
    """The places among `count` values where walks begin, the dearest first.

    `expected` (count,) is the mean that training expects under each value, cheapest first;
    None leaves the dearest alone, and so does an expectation that is nowhere above the floor.
    """
    last = count - 1
    if expected is None or not float(expected.max()) > floor:
        return (last,)
    reach = float(expected.max()) - floor
    found = {int((expected >= floor + share * reach).argmax()) for share in BETWEEN}
    return tuple(sorted(found | {last}, reverse=True))


def parts(begins: Sequence[int]) -> tuple[int, ...]:
    """How many parts of the level each start brings: the dearest as many as all the others."""
    others = len(begins) - 1
    return (max(others, 1), *(1,) * others)


def levels(level: float, begins: Sequence[int]) -> Floats:
    """The levels that a value may be tested at, rising part by part to all of it, shape (s,)."""
    every = sum(parts(begins))
    return np.asarray(level * np.arange(1, every + 1) / every)


def passes(sample: Sample, floor: float, level: float, begins: Sequence[int]) -> Mask:
    """Which values pass at each of the levels and at all greater ones, shape (s, k)."""
    each = np.stack([passed(sample, floor, one) for one in levels(level, begins)])
    return np.flip(np.logical_and.accumulate(np.flip(each, axis=0), axis=0), axis=0)


def cheapest(passing: Mask, begins: Sequence[int]) -> NDArray[np.intp]:
    """The place of the cheapest value that a walk comes to, for passes (s, ..., k); k is none."""
    count, own = passing.shape[-1], dict(zip(begins, parts(begins), strict=True))
    brought = np.zeros(passing.shape[1:-1], np.intp)
    found = np.full(passing.shape[1:-1], count, np.intp)
    for place in reversed(range(count)):
        brought = brought + own.get(place, 0)
        at = np.maximum(brought - 1, 0)[None]
        holds = (brought > 0) & np.take_along_axis(passing[..., place], at, axis=0)[0]
        found = np.where(holds, place, found)
        brought = np.where(holds, brought, 0)
    return found


def brought(begins: Sequence[int], count: int) -> NDArray[np.intp]:
    """How many parts starts have brought by each place (count,) where all values pass."""
    own = np.zeros(count, np.intp)
    own[list(begins)] = parts(begins)
    return np.asarray(np.flip(np.flip(own).cumsum()), np.intp)
