"""What interactions show of decisions that were not made: their scores, or weighted ones."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from router.errors import InvalidInput
from router.policy.policy import Policy
from router.types import Floats, Mask
from training.evaluation.overlap import effective_n
from training.learning.decided import Decided
from training.log.dataset import Dataset, Indices


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What n interactions are worth under each of k targets; all arrays (n, k).

    A target's mean `value` is its mean accuracy, or on a bandit log no more than that; then
    `tried` is the share of it that the log can show, 1 on a full-information log.
    `own` has mean zero exactly and follows the value, `expected` is what is predicted of
    the target for the interaction's query (n,). Weights are 1 on a full-information log.
    """

    query: Indices
    value: Floats
    own: Floats
    expected: Floats
    weight: Floats
    tried: Floats

    def __len__(self) -> int:
        return len(self.query)

    def take(self, which: Mask | Indices) -> Scored:
        """The interactions of a mask or at indices."""
        return Scored(**{item.name: getattr(self, item.name)[which] for item in fields(self)})

    def beside(self, other: Scored) -> Scored:
        """The same interactions under another's targets too, behind these."""
        return Scored(
            query=self.query,
            **{
                name: np.concatenate((getattr(self, name), getattr(other, name)), axis=1)
                for name in ("value", "own", "expected", "weight", "tried")
            },
        )

    @property
    def effective(self) -> Floats:
        """How many interactions of equal weight are worth as much, (k,)."""
        return effective_n(self.weight)


@dataclass(frozen=True, kw_only=True)
class Log:
    """A log's outcomes under the arms of a policy, by their place there; -1 for others.

    `propensity` and `score` (n,) are known. On a full-information log `table` (q, a) holds
    the scores, NaN where unknown, and there are no rows.
    """

    query: Indices
    arm: Indices
    score: Floats
    propensity: Floats
    seen: Mask
    table: Floats | None = None

    @classmethod
    def of(cls, dataset: Dataset, policy: Policy) -> Log:
        """The dataset's outcomes; those with a propensity, where any row has one."""
        places = {arm.key: place for place, arm in enumerate(policy.arms)}
        place = np.array([places.get(arm.key, -1) for arm in dataset.arms], np.intp)
        known = dataset.scored & ~np.isnan(dataset.rows.propensity)
        rows = dataset.rows.take(known)
        seen = np.zeros(len(places), bool)
        seen[place[rows.arm][place[rows.arm] >= 0]] = True
        table = None if known.any() else _table(dataset, place, len(places))
        arm = place[rows.arm]
        return cls(
            query=rows.query,
            arm=arm,
            score=rows.score,
            propensity=rows.propensity,
            seen=seen,
            table=table,
        )

    @property
    def most_weight(self) -> float:
        """The most that an outcome may count for."""
        return 1.0 if self.table is not None else float(1.0 / self.propensity.min())

    def scored(self, made: Decided) -> Scored:
        """What each interaction shows of the decisions, in the order of the log."""
        if self.table is not None:
            return _read(made, self.table)
        return self._weighted(made, unknown=0.0)

    def scored_arm(self, made: Decided, arm: int) -> Scored:
        """The same of one arm for every query; its mean value is no less than its accuracy."""
        constant = Decided(
            arms=np.full((len(made.arms), 1), arm, np.intp),
            feasible=np.zeros_like(made.feasible),
            rate=np.zeros(len(made.arms)),
            accuracy=made.accuracy,
            cost_usd=made.cost_usd,
            answered=made.answered,
        )
        if self.table is not None:
            return _read(constant, self.table)
        found = self._weighted(constant, unknown=1.0)
        if not found.own.any():
            raise InvalidInput(
                "the log's policy seldom could pick it, so what it reaches is not known; bring "
                "outcomes of it, or set min_accuracy",
                field="slo.reference_arm",
            )
        return found

    def _weighted(self, made: Decided, *, unknown: float) -> Scored:
        """Inverse propensity weights, with w x prediction - its mean over arms as the control.

        A row whose arm was certain shows nothing of other arms, and none shows anything of
        an arm that the log never has: these count as `unknown`.
        """
        answered = made.answered[self.query]
        query, arm, score = self.query[answered], self.arm[answered], self.score[answered]
        propensity = self.propensity[answered][:, None]
        ours, arm = (arm >= 0)[:, None], np.maximum(arm, 0)
        chance = made.chance(query, arm) * ours
        weight, certain = chance / propensity, propensity >= 1.0
        predicted = made.accuracy[query, arm][:, None]
        seen = np.broadcast_to(self.seen.astype(float), made.accuracy.shape)
        shown = np.where(certain, chance, made.mean(seen)[query])
        promised = np.where(certain, chance * predicted, made.mean(seen * made.accuracy)[query])
        return Scored(
            query=query,
            value=weight * score[:, None] + unknown * (1.0 - shown),
            own=_trusted(weight, shown) * (weight * predicted - promised),
            expected=made.mean(made.accuracy)[query],
            weight=weight,
            tried=shown,
        )


def _read(made: Decided, table: Floats) -> Scored:
    value = made.mean(np.where(made.answered[:, None], table, np.nan))
    return Scored(
        query=np.arange(len(value)),
        value=value,
        own=np.zeros_like(value),
        expected=made.mean(made.accuracy),
        weight=np.ones_like(value),
        tried=np.ones_like(value),
    )


_LEAST_Z = -3.0


def _trusted(weight: Floats, seen: Floats) -> Mask:
    """Whether the weights' mean may be what it should be, (k,): else some arm was never picked."""
    short = weight - seen
    error = short.std(axis=0) / np.sqrt(max(len(short), 1))
    return np.asarray(short.mean(axis=0) >= _LEAST_Z * np.maximum(error, 1e-12))


def _table(dataset: Dataset, place: Indices, arms: int) -> Floats:
    table = np.full((len(dataset.queries), arms), np.nan)
    ours = place >= 0
    table[:, place[ours]] = dataset.table("score")[:, ours]
    return table


def check_arm(policy: Policy, key: str) -> int:
    """The place of an arm. Raises InvalidInput when the policy does not have it."""
    keys = [arm.key for arm in policy.arms]
    if key not in keys:
        raise InvalidInput(f"the policy has no arm {key!r:.120}", field="slo.reference_arm")
    return keys.index(key)
