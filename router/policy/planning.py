"""Planning the first attempt of a caller who is willing to continue.

Value iteration on the beliefs of the evidence model. With value v of a correct answer, an
answer in hand is worth v x belief, and an arm is worth the expectation, over the surprise
that its attempt may show, of the best that can be done afterwards, minus its cost. Two
attempts are looked ahead, each surprise standing for a third of its distribution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from router.policy.choice import Utility
from router.policy.evidence import (
    LEAST_VARIANCE,
    MOST_EXPLAINED,
    NODES,
    EvidenceModel,
    Indices,
    probit,
)
from router.policy.limits import Limits
from router.policy.standing import Standing
from router.policy.tradeoff import Tradeoff
from router.slo import Slo
from router.types import Bounds, Floats, Mask, Predictions

_FAR = np.array([-2.326, *NODES, 2.326])
"""The surprises that planning looks at, and the ends of the central 98 %."""

_BATCH_CELLS = 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """What two attempts may bring to n queries, whatever an answer is worth.

    `first` (n, a, b) is the belief in the answer of each first arm at each of its
    surprises; `second` (n, a, b, a) the expected best belief in hand after a second arm.
    """

    first: Floats
    second: Floats

    def row(self, place: int) -> Ahead:
        """What they may bring to one of the queries."""
        one = slice(place, place + 1)
        return Ahead(first=self.first[one], second=self.second[one])

    def utility(self, value_usd: float, cost_usd: Floats, allowed: Mask) -> Floats:
        """The planned value - cost of each first arm, (n, a).

        `cost_usd` is (n, a); `allowed` (n, a, a) says which second arm may follow a first.
        """
        second = value_usd * self.second
        second -= np.where(allowed, cost_usd[:, None, :], np.inf)[:, :, None, :]
        best = np.maximum(value_usd * self.first, second.max(axis=3))
        return np.asarray(best.mean(axis=2) - cost_usd)


class Continuation:
    """Plans with one evidence model for a catalog's arms. Immutable and thread-safe.

    `tradeoff` is the curve of callers who are willing to continue; `informs` tells whether
    any attempt shows anything to go by.
    """

    def __init__(self, evidence: EvidenceModel, tradeoff: Tradeoff) -> None:
        self.evidence, self.tradeoff = evidence, tradeoff
        self._informing: Mask = np.any(evidence.transfer, axis=1)
        self.informs = bool(self._informing.any())
        moved = evidence.transfer
        self._scale = 1.0 / np.sqrt(1.0 - np.minimum(moved**2, MOST_EXPLAINED))
        self._moved = (self._scale * moved)[:, None, :] * NODES[:, None]
        self._moved_far = (self._scale * moved)[:, None, :] * _FAR[:, None]
        self._new, self._held = _pairs(evidence)

    def ahead(self, accuracy: Floats) -> Ahead:
        """What the first two attempts may bring to queries of predicted accuracy (n, a)."""
        size = max(_BATCH_CELLS // (accuracy.shape[1] * len(NODES)) ** 2, 1)
        parts = [
            self._ahead(probit(accuracy[start : start + size]))
            for start in range(0, len(accuracy), size)
        ]
        if len(parts) == 1:
            return parts[0]
        return Ahead(
            first=np.concatenate([part.first for part in parts]),
            second=np.concatenate([part.second for part in parts]),
        )

    def _ahead(self, mu: Floats) -> Ahead:
        arms = np.arange(mu.shape[1])
        own = self._moved[arms, :, arms]
        first = ndtr((mu * self._scale[arms, arms])[:, :, None] + own)
        new = ndtr(mu[:, None, None, :, None] * self._new.scale + self._new.moved)
        held = ndtr(mu[:, :, None, None, None] * self._held.scale + self._held.moved)
        return Ahead(first=first, second=np.maximum(new, held, out=new).mean(axis=4))

    def pays(self, arms: Indices, accuracy: Floats, cost_usd: Floats, value_usd: float) -> Mask:
        """Whether a second attempt after `arms` (n,) is expected to add to value - cost, at least.

        The second answer is taken at its belief after the first; `accuracy` and `cost_usd`
        are (n, a), a cost infinite where an arm may not follow, the first itself too.
        Answers within some microseconds, since every decision asks.
        """
        gains = self._gains(self._moved.take(arms, axis=0), arms, accuracy, cost_usd, value_usd)
        return gains & self._informing[arms]

    def may_pay(self, arms: Indices, accuracy: Floats, cost_usd: Floats, value_usd: float) -> Mask:
        """Whether any but the rarest surprise makes a second attempt pay, (n,); else as `pays`."""
        return self._gains(self._moved_far.take(arms, axis=0), arms, accuracy, cost_usd, value_usd)

    def _gains(
        self, moved: Floats, arms: Indices, accuracy: Floats, cost_usd: Floats, value_usd: float
    ) -> Mask:
        """Whether some second arm gains at some surprise; `moved` (n, b, a) is what they move."""
        shown = ndtr((probit(accuracy) * self._scale.take(arms, axis=0))[:, None] + moved)
        held = shown[np.arange(len(arms)), :, arms]
        gains = value_usd * (shown - held[:, :, None]) > cost_usd[:, None]
        return np.asarray(gains.reshape(len(arms), -1).any(axis=1))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pairs:
    """Of a first and a second arm: by how much mu counts, and what their surprises add.

    `scale` broadcasts and `moved` has shape (first, its surprise, second, its surprise).
    """

    scale: Floats
    moved: Floats


def _pairs(evidence: EvidenceModel) -> tuple[_Pairs, _Pairs]:
    """For the belief in the second arm's answer, and in the first one's."""
    moved, alike = evidence.transfer, evidence.likeness
    own = np.diag(moved)
    spread = np.sqrt(np.maximum(1.0 - alike**2, LEAST_VARIANCE))
    new = _pair(moved, (own - alike * moved) / spread)
    held = _pair(
        np.repeat(own[:, None], len(own), axis=1), (moved.T - alike * own[:, None]) / spread
    )
    return new, held


def _pair(first: Floats, second: Floats) -> _Pairs:
    """`first` and `second` (a, a) are the weights of both surprises in one arm's mean."""
    scale = 1.0 / np.sqrt(1.0 - np.minimum(first**2 + second**2, MOST_EXPLAINED))
    return _Pairs(
        scale=scale[:, None, :, None],
        moved=(scale * first)[:, None, :, None] * NODES[:, None, None]
        + (scale * second)[:, None, :, None] * NODES,
    )


def allowed_pairs(predictions: Predictions, feasible: Mask, slo: Slo, bounds: Bounds) -> Mask:
    """Which second arm may follow which first (a, a), within the bounds on both together."""
    limits = Limits.of(slo, bounds, per_query=False)
    pairs = feasible & ~np.eye(len(feasible), dtype=bool)
    if limits.cost_usd is not None:
        pairs &= np.add.outer(predictions.cost_usd, predictions.cost_usd) <= limits.cost_usd
    if limits.energy_wh is not None:
        pairs &= np.add.outer(predictions.energy_wh, predictions.energy_wh) <= limits.energy_wh
    if limits.latency_s is not None:
        latency_s = predictions.latency_s(limits.latency_quantile)
        pairs &= np.add.outer(latency_s, latency_s) <= limits.latency_s
    return pairs


def planned(ahead: Callable[[], Ahead], standing: Standing, slo: Slo, bounds: Bounds) -> Utility:
    """What `choose` ranks the arms of one query by, when more attempts may follow.

    `ahead` is called only where the slo leaves something to plan.
    """

    def utility(value_usd: float, feasible: Mask) -> Floats:
        pairs = allowed_pairs(standing.predictions, feasible, slo, bounds)
        plan = ahead().utility(value_usd, standing.weighed_usd[None], pairs[None])
        return np.asarray(plan[0])

    return utility
