"""What two policies' decisions bring, each and the one less the other, on the same interactions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from router.types import Floats
from training.compare.log import Behaviour, Interactions
from training.compare.picks import Picks
from training.evaluation.intervals import Scores, t_interval
from training.evaluation.logged import Logged, counted
from training.evaluation.ope import compare, evaluate, scores
from training.log.dataset import Indices
from training.report.measured import Told

FIGURES = (("accuracy", "score"), ("cost_usd", "cost_usd"), ("latency_s", "latency_s"))
"""What is compared, by the name of its prediction and of its outcome."""

LEAST_KNOWN = 30
_CONFIDENCE = 0.95
_TOPIC = "topic"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A figure per query under A, under B, and of B less A.

    Predicted ones are each policy's own of its own decisions; of latency, the median.
    """

    name: str
    predicted: tuple[float, float]
    measured: tuple[Told, Told]
    difference: Told


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Interactions that neither policy has learnt from, and both policies' decisions there."""

    log: Interactions
    one: Picks
    other: Picks

    def told(self, name: str, outcome: str) -> tuple[Told, Told, Told]:
        """What A brings, what B does, and B less A."""
        if not len(self.log):
            nothing = Told.untold("cannot tell: no interaction that neither has learnt from")
            return nothing, nothing, nothing
        behaviour = self.log.rewards.behaviour
        if behaviour is None:
            return self._known(outcome)
        logged = self.logged(behaviour, name, outcome)
        own = [Told.of(evaluate(logged, each.target)) for each in (self.one, self.other)]
        if np.array_equal(self.one.target, self.other.target):
            return own[0], own[1], Told(estimate=0.0, low=0.0, high=0.0)
        return own[0], own[1], Told.of(compare(logged, self.other.target, self.one.target))

    def logged(self, behaviour: Behaviour, name: str, outcome: str) -> Logged:
        """The interactions with one kind of reward; both policies' predictions are its model."""
        reward = getattr(self.log.rewards, outcome)
        return Logged(
            arm=behaviour.arm,
            propensity=behaviour.propensity,
            reward=reward,
            predicted=_expected(getattr(self.one, name), getattr(self.other, name), reward),
            response=behaviour.response if outcome == "score" else None,
            cluster=self.log.cluster,
            region=self._region,
        )

    def values(self, name: str, outcome: str) -> tuple[Floats, Floats]:
        """Per interaction, what A and B bring, both (n,): NaN where a full log does not tell."""
        behaviour = self.log.rewards.behaviour
        if behaviour is None:
            table = getattr(self.log.rewards, outcome)
            return _brought(self.one.target, table), _brought(self.other.target, table)
        logged = self.logged(behaviour, name, outcome)
        return scores(logged, self.one.target), scores(logged, self.other.target)

    @cached_property
    def _region(self) -> Indices | None:
        found = [each.of for each in self.log.facets if each.name == _TOPIC]
        return found[0] if found else None

    def _known(self, outcome: str) -> tuple[Told, Told, Told]:
        """The same from outcomes of every arm."""
        table = getattr(self.log.rewards, outcome)
        one, other = (_brought(each.target, table) for each in (self.one, self.other))
        known = ~np.isnan(one + other)
        if known.sum() < LEAST_KNOWN:
            nothing = Told.untold(
                f"cannot tell: {int(known.sum())} queries have an outcome of every arm that is "
                f"picked, fewer than {LEAST_KNOWN}"
            )
            return nothing, nothing, nothing
        cluster = counted(self.log.cluster[known])
        found = [
            t_interval(Scores(values=each[known], cluster=cluster), _CONFIDENCE)
            for each in (one, other, other - one)
        ]
        first, second, third = (
            Told(estimate=each.estimate, low=each.low, high=each.high) for each in found
        )
        return first, second, third


def _brought(target: Floats, table: Floats) -> Floats:
    """The mean outcome under a target's probabilities, both (n, a); NaN where it is not known."""
    return np.asarray((np.where(target > 0.0, table, 0.0) * target).sum(axis=1))


def _expected(one: Floats, other: Floats, reward: Floats) -> Floats:
    """The mean of both policies' predictions (n, a), the known one's, or else the mean reward."""
    known = (~np.isnan(one)).astype(float) + ~np.isnan(other)
    total = np.nan_to_num(one) + np.nan_to_num(other)
    usual = float(np.nanmean(reward)) if not np.isnan(reward).all() else 0.0
    return np.asarray(np.divide(total, known, out=np.full(one.shape, usual), where=known > 0))


def differences(both: tuple[Picks, Picks], facts: Facts, seen: str) -> tuple[Difference, ...]:
    """Every figure, predicted on all interactions and measured on those in `facts`.

    `seen` says why the other interactions do not count.
    """
    found = []
    for name, outcome in FIGURES:
        one, other, apart = facts.told(name, outcome)
        if seen and len(facts.log) < LEAST_KNOWN:
            left = f", and only {len(facts.log):,} are newer" if len(facts.log) else ""
            one = other = apart = Told.untold(f"cannot tell: {seen}{left}")
        found.append(
            Difference(
                name=name,
                predicted=(_mean(both[0].predicted(name)), _mean(both[1].predicted(name))),
                measured=(one, other),
                difference=apart,
            )
        )
    return tuple(found)


def _mean(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
