"""The latency of an arm that was never measured, from a single pass of its model that was.

A strategy is rounds in turn of passes side by side, each so many times as long as the
measured pass. With log latency of one pass at Q(p) from its median, the slowest of w that
run side by side has the quantiles Q(p^(1/w)). The sum of r rounds is taken as log-normal
with the same mean and variance (Fenton 1960), where rounds of one query on one backend
correlate by a half.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import ndtri

from router.policy.arms import compute
from router.slo import LATENCY_QUANTILES
from router.types import Arm, Floats, Strategy

ALIKE = 0.5
"""How rounds of one query correlate: a slow query stays slow, a busy second passes."""

MOST_PASSES = 1_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How a strategy spends time: rounds in turn, each of passes side by side.

    `length` is a pass's compute over that of the model's single pass.
    """

    rounds: float = 1.0
    passes: float = 1.0
    length: float = 1.0

    @property
    def one_pass(self) -> bool:
        """Whether it is one call, however long."""
        return self.rounds == self.passes == 1.0

    def over(self, one_pass: Shape) -> Shape:
        """The same shape, in lengths of that pass."""
        return replace(self, length=self.length / one_pass.length)


def shape(arm: Arm) -> Shape:
    """The shape of the arm's strategy, by the compute that `arms.compute` gives it."""
    spent, params = compute(arm), arm.params
    match arm.strategy:
        case Strategy.SELF_CONSISTENCY:
            passes = _count(params.get("samples"), 5)
            return Shape(passes=passes, length=spent / passes)
        case Strategy.REFINEMENT:
            rounds = _count(params.get("rounds"), 3)
            return Shape(rounds=rounds, length=spent / rounds)
        case Strategy.TREE_OF_THOUGHTS:
            rounds, passes = _count(params.get("depth"), 3), _count(params.get("width"), 5)
            return Shape(rounds=rounds, passes=passes, length=spent / (rounds * passes))
        case _:
            return Shape(length=spent)


def _count(value: Any, default: int) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        return float(default)
    return min(max(float(value), 1.0), MOST_PASSES)


def quantiles_of(shaped: Shape, one_pass: Floats) -> Floats:
    """The LATENCY_QUANTILES of the log latency of a shape, shape (3,).

    Both they and those of one pass, `one_pass` (3,), are from the median of a pass of
    length 1.
    """
    slowest = _of_passes(one_pass, shaped.passes) + math.log(shaped.length)
    return slowest if shaped.rounds == 1.0 else _of_rounds(slowest, shaped.rounds)


def _of_passes(one_pass: Floats, passes: float) -> Floats:
    """The quantiles of the slowest pass; between and beyond those known, log-normal."""
    scores = ndtri(np.array(LATENCY_QUANTILES) ** (1.0 / passes))
    slope = (one_pass[-1] - one_pass[0]) / _SCORES[-1]
    beyond = one_pass[-1] + slope * (scores - _SCORES[-1])
    inside = np.interp(scores, _SCORES, one_pass)
    return np.asarray(np.where(scores > _SCORES[-1], beyond, inside))


def _of_rounds(one_round: Floats, rounds: float) -> Floats:
    """The quantiles of the sum of rounds, whose spread is that of the 0.95 quantile."""
    spread = max(float(one_round[1] - one_round[0]) / _SCORES[1], 0.0)
    relative = math.expm1(spread**2) * (1.0 + (rounds - 1.0) * ALIKE) / rounds
    variance = math.log1p(relative)
    middle = float(one_round[0]) + (spread**2 - variance) / 2.0 + math.log(rounds)
    return np.asarray(middle + math.sqrt(variance) * _SCORES)


_SCORES = ndtri(np.array(LATENCY_QUANTILES))
