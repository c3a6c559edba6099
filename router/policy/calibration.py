"""Calibration: from log-odds to probabilities that hold, arm by arm, with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from router.policy.arms import chains
from router.policy.bundled import Bundled
from router.types import Arm, Floats

UNKNOWN = 0.25
"""By how much further either end of the interval lies for an arm of which nothing was learnt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration(Bundled):
    """How log-odds become probabilities (Platt 1999), for a arms.

    The probability is the logistic of `slope` () x log-odds + `offset` (a,), an arm's
    offset being shrunk to the common one. Around it lies the central 90 % interval of
    the share of correct answers: `below` and `above` (c,) are its halves at the
    probabilities `level` (c,), which rise, and `doubt` (a,) is added to both.
    `chains` (c, l) are places of arms that may not lose accuracy with more compute: what
    they are predicted is made monotone.
    """

    PREFIX: ClassVar[str] = "calibration_"

    slope: Floats
    offset: Floats
    level: Floats
    below: Floats
    above: Floats
    doubt: Floats
    chains: NDArray[np.intp] = field(default_factory=lambda: np.empty((0, 1), np.intp))

    def __call__(self, raw: Floats) -> tuple[Floats, Floats, Floats]:
        """The probabilities and both ends of their intervals, of log-odds (n, a)."""
        accuracy = self._rising(1.0 / (1.0 + np.exp(-(self.slope * raw + self.offset))))
        below = np.interp(accuracy, self.level, self.below) + self.doubt
        above = np.interp(accuracy, self.level, self.above) + self.doubt
        return accuracy, np.maximum(accuracy - below, 0.0), np.minimum(accuracy + above, 1.0)

    def bind(self, place: Mapping[str, int], arms: Sequence[Arm]) -> Calibration:
        """The calibration of these arms by their keys' places; without one, the common one."""
        found = np.array([place.get(arm.key, -1) for arm in arms], np.intp)
        known = found >= 0
        return Calibration(
            slope=self.slope,
            offset=np.where(known, self.offset[found], self.offset.mean()),
            level=self.level,
            below=self.below,
            above=self.above,
            doubt=np.where(known, self.doubt[found], UNKNOWN),
            chains=chains(arms),
        )

    def _rising(self, accuracy: Floats) -> Floats:
        """Half way between the least rising bound above and the greatest one below."""
        if not len(self.chains):
            return accuracy
        values = accuracy[:, self.chains]
        upper = np.maximum.accumulate(values, axis=2)
        lower = np.minimum.accumulate(values[:, :, ::-1], axis=2)[:, :, ::-1]
        accuracy[:, self.chains] = (upper + lower) / 2.0
        return accuracy
