"""Fits of scaling laws to accuracies at some computes, for many resamples side by side.

Variable projection (Golub and Pereyra 1973): for a given exponent the laws are linear, so
the best of a grid of exponents is the least-squares fit, and no start can lead it astray.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from router.types import Floats

MOST_EXPONENT = 2.0
_GRID = np.linspace(0.0, MOST_EXPONENT, 401)
_LEAST_BEND = 4


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """left + scale x compute^-exponent, each (b,), with compute in units of the least one."""

    left: Floats
    scale: Floats
    exponent: Floats

    def at(self, compute: Floats) -> Floats:
        """The law at computes (l,), (b, l)."""
        return np.asarray(
            self.left[:, None] + self.scale[:, None] * compute ** -self.exponent[:, None]
        )


def power_law(compute: Floats, values: Floats) -> Fitted:
    """Fits scale x compute^-exponent, exponent from 0 to 2, to values (b, l) at computes (l,)."""
    basis = compute ** -_GRID[:, None]
    square = (basis**2).sum(axis=1)
    scale = np.maximum(values @ basis.T / square, 0.0)
    best = (scale**2 * square - 2.0 * scale * (values @ basis.T)).argmin(axis=1)
    rows = np.arange(len(values))
    return Fitted(left=np.zeros(len(values)), scale=scale[rows, best], exponent=_GRID[best])


def growth(compute: Floats, values: Floats) -> Floats:
    """The exponent of values (b, l) ~ compute^exponent, from 0 to 2, (b,)."""
    ends = values[:, ::-1]
    return power_law(compute[-1] / compute[::-1], ends).exponent


def saturating_law(compute: Floats, values: Floats) -> Fitted:
    """Fits left + scale x compute^-exponent, both parts at least 0, to values (b, l)."""
    basis = compute ** -_GRID[_LEAST_BEND:, None]
    mean, middle = values.mean(axis=1, keepdims=True), basis.mean(axis=1)
    spread = ((basis - middle[:, None]) ** 2).sum(axis=1)
    scale = np.maximum((values - mean) @ (basis - middle[:, None]).T / spread, 0.0)
    left = mean - scale * middle
    alone = np.maximum(values @ basis.T / (basis**2).sum(axis=1), 0.0)
    scale, left = np.where(left < 0.0, alone, scale), np.maximum(left, 0.0)
    away = values[:, None, :] - left[:, :, None] - scale[:, :, None] * basis
    best = (away**2).sum(axis=2).argmin(axis=1)
    rows = np.arange(len(values))
    return Fitted(
        left=left[rows, best], scale=scale[rows, best], exponent=_GRID[_LEAST_BEND:][best]
    )
