"""Logged interactions: what off-policy evaluation reads, checked."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from router.errors import InvalidInput
from router.types import Floats, Mask
from training.evaluation.overlap import Weighed
from training.log.dataset import Indices

_SUM_SLACK = 1e-6


@dataclass(frozen=True, kw_only=True)
class Logged:
    """n interactions of a behaviour policy among a arms, with one kind of reward.

    `arm` (n,) was picked with the probability `propensity` (n,) in (0, 1], given the
    context; `reward` (n,) came of it, NaN where unknown. `predicted` (n, a) is what a reward
    model expects of every arm; it must not have learnt from these rows, or DR is biased and
    its interval too short. `response` (n,) is 1 / the probability that a row's reward became
    known; without it rewards are taken to be missing at random. Rows of one `cluster` (n,),
    such as the same text or subject, are not independent. Overlap must hold in each large
    `region` (n,), such as a topic, where regions are given. Rewards are in [`least`, `most`],
    and predictions beyond count as the bound. Raises InvalidInput that names the field.
    """

    arm: Indices
    propensity: Floats
    reward: Floats
    predicted: Floats
    response: Floats | None = None
    cluster: Indices | None = None
    region: Indices | None = None
    least: float = -np.inf
    most: float = np.inf

    def __post_init__(self) -> None:
        _check_rows(self)
        _check_values(self)

    def __len__(self) -> int:
        return len(self.arm)

    @property
    def known(self) -> Mask:
        """Rows whose reward is known, (n,)."""
        return ~np.isnan(self.reward)

    @cached_property
    def expected(self) -> Floats:
        """The predictions within the bounds, (n, a)."""
        return np.clip(self.predicted, self.least, self.most)

    @property
    def filled(self) -> Floats:
        """Rewards with 0 for unknown ones, whose weight is 0, (n,)."""
        return np.where(self.known, self.reward, 0.0)

    @property
    def residual(self) -> Floats:
        """Rewards less their predictions, 0 where unknown, (n,)."""
        predicted = self.expected[np.arange(len(self)), self.arm]
        return np.where(self.known, self.reward - predicted, 0.0)

    def direct(self, target: Floats) -> Floats:
        """What the predictions say of a target's probabilities (n, a), (n,)."""
        return np.asarray(np.einsum("ia,ia->i", target, self.expected))

    @property
    def span(self) -> float:
        """The range that rewards may have; infinite where nobody says."""
        return self.most - self.least

    @property
    def known_span(self) -> float:
        """The range that known rewards have."""
        known = self.reward[self.known]
        return float(np.ptp(known)) if len(known) else 0.0

    def weighed(self, target: Floats) -> Weighed:
        """The rows as weights for a target policy, whose probabilities are (n, a).

        Raises InvalidInput when these are not probabilities of these rows' arms.
        """
        _check_target(target, self.predicted.shape)
        picked = target[np.arange(len(self)), self.arm]
        return Weighed(
            target=target,
            arm=self.arm,
            propensity=self.propensity,
            weight=picked / self.propensity * self._answered,
            known=self.known,
            region=self._places,
        )

    @cached_property
    def _places(self) -> Indices | None:
        return counted(self.region)

    @property
    def _answered(self) -> Floats:
        """What a known reward counts for, so that all rows are stood for; 0 where unknown."""
        known = self.known
        if self.response is None:
            return np.asarray(known * (len(self) / max(int(known.sum()), 1)), np.float64)
        return np.where(known, self.response, 0.0)


def _check_rows(logged: Logged) -> None:
    count = len(logged.arm)
    if not count:
        raise InvalidInput("there is no interaction to evaluate from; bring a log", field="arm")
    if logged.predicted.ndim != 2 or len(logged.predicted) != count:
        raise InvalidInput(
            f"its shape is {logged.predicted.shape}, not ({count}, arms)", field="predicted"
        )
    for name in ("propensity", "reward", "response", "cluster", "region"):
        values = getattr(logged, name)
        if values is not None and values.shape != (count,):
            raise InvalidInput(f"its shape is {values.shape}, not ({count},)", field=name)


def _check_values(logged: Logged) -> None:
    known, arms = logged.known, logged.predicted.shape[1]
    reward = logged.reward[known]
    inside = (logged.least <= reward) & (reward <= logged.most) & np.isfinite(reward)
    for name, valid, law in (
        ("arm", (logged.arm >= 0) & (logged.arm < arms), f"from 0 to {arms - 1}"),
        ("propensity", (logged.propensity > 0.0) & (logged.propensity <= 1.0), "in (0, 1]"),
        ("reward", inside, f"finite and in [{logged.least:g}, {logged.most:g}]"),
        ("predicted", np.isfinite(logged.predicted), "finite"),
        ("response", _is_response(logged), "finite and at least 1 where the reward is known"),
    ):
        if not valid.all():
            raise InvalidInput(f"{int((~valid).sum())} values are not {law}", field=name)


def _is_response(logged: Logged) -> Mask:
    if logged.response is None:
        return np.ones(0, bool)
    weight = logged.response[logged.known]
    return np.asarray(np.isfinite(weight) & (weight >= 1.0))


def _check_target(target: Floats, shape: tuple[int, ...]) -> None:
    if target.shape != shape:
        raise InvalidInput(f"its shape is {target.shape}, not {shape}", field="target")
    off = np.abs(target.sum(axis=1) - 1.0)
    if not ((target >= 0.0).all() and (off <= _SUM_SLACK).all()):
        raise InvalidInput(
            "its rows are not probabilities; each must sum to 1 with none below 0", field="target"
        )


def one_hot(arm: Indices, arms: int) -> Floats:
    """The probabilities (n, arms) of a deterministic policy that picks `arm` (n,)."""
    target = np.zeros((len(arm), arms))
    target[np.arange(len(arm)), arm] = 1.0
    return target


def counted(labels: Indices | None) -> Indices | None:
    """The labels as places from 0 without gaps, (n,)."""
    return None if labels is None else np.asarray(np.unique(labels, return_inverse=True)[1])
