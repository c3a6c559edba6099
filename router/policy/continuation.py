"""Continuation: after an attempt, keep its answer or try another arm.

The attempt's evidence moves the belief in its own answer (logistic regression per arm on
the predicted log-odds and the confidence), and, by the same surprise, the belief in the
other arms. Another arm is tried when it pays: when the value of the accuracy that it adds
exceeds its cost, or when the answer in hand is below a per-query floor that it meets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from router.policy.choice import Limits
from router.policy.tradeoff import Tradeoff
from router.types import AccuracyScope, Arm, Bounds, Evidence, Floats, Mask, Predictions, Slo

MAX_ATTEMPTS = 3
_CLIP = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceModel:
    """How confidence moves belief, per arm.

    `weights` (a, 3) are bias, weight of the prior log-odds and weight of the standardised
    confidence; a row is NaN where the log had no confidence. `center` and `scale` (a,)
    standardise it. `transfer` is the share of the move in log-odds that passes to the
    other arms.
    """

    weights: Floats
    center: Floats
    scale: Floats
    transfer: float

    def informs(self, index: int) -> bool:
        """Whether an attempt with the arm shows anything to go by."""
        return index < len(self.weights) and bool(np.isfinite(self.weights[index]).all())

    def posterior(self, index: int, accuracy: float, evidence: Evidence) -> float:
        """Probability that the attempt's answer is correct, given its evidence."""
        if evidence.confidence is None or not self.informs(index):
            return accuracy
        surprise = (evidence.confidence - self.center[index]) / self.scale[index]
        bias, slope, weight = self.weights[index]
        return float(_logistic(bias + slope * _log_odds(accuracy) + weight * surprise))

    def bind(self, trained_arms: Sequence[Arm], arms: Sequence[Arm]) -> EvidenceModel:
        """The model for the catalog's arms; an arm that was not trained on informs nothing."""
        index = {arm.key: row for row, arm in enumerate(trained_arms)}
        rows = np.array([index.get(arm.key, -1) for arm in arms], dtype=np.intp)
        return EvidenceModel(
            weights=np.where(rows[:, None] >= 0, self.weights[rows], np.nan),
            center=self.center[rows],
            scale=self.scale[rows],
            transfer=self.transfer,
        )

    @classmethod
    def from_mapping(cls, arrays: Mapping[str, Floats]) -> EvidenceModel:
        """Reads the model out of a bundle's arrays. Raises KeyError when one is missing."""
        return cls(
            weights=arrays["evidence_weights"],
            center=arrays["evidence_center"],
            scale=arrays["evidence_scale"],
            transfer=float(arrays["evidence_transfer"]),
        )

    def to_mapping(self) -> dict[str, Floats]:
        """The model under the names of a bundle's arrays."""
        return {
            "evidence_weights": self.weights,
            "evidence_center": self.center,
            "evidence_scale": self.scale,
            "evidence_transfer": np.array(self.transfer),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """An attempt that ended: the arm's index and what it showed."""

    index: int
    evidence: Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What to do next: the next arm's index, or None to keep the answer of `best`.

    `best` counts attempts from 0; `accuracy` is the belief in that answer; `predictions`
    are those moved by the evidence.
    """

    next_index: int | None
    best: int
    accuracy: float
    predictions: Predictions
    reason: str


def plan(
    predictions: Predictions,
    eligible: Mask,
    tried: Sequence[Tried],
    slo: Slo,
    bounds: Bounds,
    *,
    evidence_model: EvidenceModel,
    tradeoff: Tradeoff,
) -> Step:
    """Decides after the attempts so far, oldest first; at least one, at most MAX_ATTEMPTS.

    Cost and latency that were spent count against the slo's bounds.
    """
    beliefs, moved = _update(predictions, tried, evidence_model)
    best = int(np.argmax(beliefs))
    in_hand = beliefs[best]
    left = eligible.copy()
    left[[attempt.index for attempt in tried]] = False
    left &= _affordable(moved, tried, slo, bounds)
    if len(tried) >= MAX_ATTEMPTS or not left.any():
        return Step(
            next_index=None, best=best, accuracy=in_hand, predictions=moved, reason="no arm is left"
        )
    index, reason = _worthwhile(moved, left, in_hand, slo, tradeoff)
    return Step(next_index=index, best=best, accuracy=in_hand, predictions=moved, reason=reason)


def _update(
    predictions: Predictions, tried: Sequence[Tried], model: EvidenceModel
) -> tuple[list[float], Predictions]:
    accuracy = predictions.accuracy.copy()
    beliefs = []
    for attempt in tried:
        before = float(accuracy[attempt.index])
        after = model.posterior(attempt.index, before, attempt.evidence)
        beliefs.append(after)
        move = model.transfer * (_log_odds(after) - _log_odds(before))
        accuracy = _logistic(_log_odds(accuracy) + move)
    return beliefs, replace(predictions, accuracy=accuracy)


def _affordable(predictions: Predictions, tried: Sequence[Tried], slo: Slo, bounds: Bounds) -> Mask:
    limits = Limits.of(slo, bounds, per_query=False)
    spent_usd = sum(attempt.evidence.cost_usd or 0.0 for attempt in tried)
    spent_s = sum(attempt.evidence.latency_s or 0.0 for attempt in tried)
    affordable = np.ones(len(predictions.cost_usd), bool)
    if limits.cost_usd is not None:
        affordable &= predictions.cost_usd + spent_usd <= limits.cost_usd
    if limits.latency_s is not None:
        latency_s = predictions.latency_s(limits.latency_quantile)
        affordable &= latency_s + spent_s <= limits.latency_s
    return affordable


def _worthwhile(
    predictions: Predictions, left: Mask, in_hand: float, slo: Slo, tradeoff: Tradeoff
) -> tuple[int | None, str]:
    if slo.min_accuracy is not None and slo.accuracy_scope is AccuracyScope.PER_QUERY:
        return _to_the_floor(predictions, left, in_hand, slo.min_accuracy)
    value = slo.accuracy_value_usd
    if value is None:
        floor = slo.min_accuracy
        value, _ = tradeoff.value_for(tradeoff.best_constant_accuracy if floor is None else floor)
    gain = np.where(left, value * (predictions.accuracy - in_hand) - predictions.cost_usd, -np.inf)
    index = int(gain.argmax())
    if gain[index] > 0:
        return index, "another arm adds more than it costs"
    return None, "no other arm adds more than it costs"


def _to_the_floor(
    predictions: Predictions, left: Mask, in_hand: float, floor: float
) -> tuple[int | None, str]:
    if in_hand >= floor:
        return None, "the answer in hand meets the floor"
    meets = left & (predictions.accuracy >= floor)
    if meets.any():
        return int(np.where(meets, predictions.cost_usd, np.inf).argmin()), "below the floor"
    index = int(np.where(left, predictions.accuracy, -np.inf).argmax())
    if predictions.accuracy[index] > in_hand:
        return index, "below the floor; took the most accurate arm that is left"
    return None, "no other arm is more accurate"


def _log_odds(probability: Floats | float) -> Floats:
    clipped = np.clip(probability, _CLIP, 1.0 - _CLIP)
    return np.asarray(np.log(clipped / (1.0 - clipped)))


def _logistic(log_odds: Floats | float) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-np.asarray(log_odds))))
