"""What serving would decide for many queries, at every value of a correct answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

import numpy as np

from router import pipeline
from router.conditions import Conditions, Promise
from router.errors import Infeasible
from router.policy.exploration import doubt
from router.policy.guard import viewed
from router.policy.policy import Policy, Predicted
from router.policy.standing import stand
from router.slo import Slo
from router.types import Bounds, Decision, Floats, Mask, Query
from training.learning.directed import Directed
from training.log.dataset import Indices

_BATCH_TEXTS = 256
_NEVER, _NOBODY = datetime(2000, 1, 1, tzinfo=UTC), UUID(int=0)
_BOUNDS = Bounds()


@dataclass(frozen=True, kw_only=True)
class Decided:
    """Decisions for q queries at k values, among a arms; one attempt each.

    `arms` (q, k) were picked before exploration, which picks at the `rate` (q,) one of those
    in `feasible` (q, a), or as `directed` says. `accuracy` and `cost_usd` (q, a) are
    predictions. Queries that are not `answered` (q,) have no arm that may be run.
    """

    arms: Indices
    feasible: Mask
    rate: Floats
    accuracy: Floats
    cost_usd: Floats
    answered: Mask
    directed: Directed | None = None

    def mean(self, table: Floats) -> Floats:
        """What the decisions get of a table (q, a) on average, (q, k)."""
        picked: Floats = np.take_along_axis(table, self.arms, axis=1)
        if not self.rate.any():
            return picked
        if self.directed is not None:
            return self.directed.mean(table)
        explored = np.where(self.feasible, table, 0.0).sum(axis=1) / self._count
        rate = self.rate[:, None]
        mixed = (1.0 - rate) * picked + rate * explored[:, None]
        return np.asarray(np.where(rate > 0.0, mixed, picked))

    def chance(self, query: Indices, arm: Indices) -> Floats:
        """The chance that the decision for each of n queries picks the arm, (n, k)."""
        if self.directed is not None:
            return self.directed.chance(query, arm)
        rate = self.rate[query]
        explored = np.where(self.feasible[query, arm], rate / self._count[query], 0.0)
        picked = self.arms[query] == arm[:, None]
        return np.asarray((1.0 - rate)[:, None] * picked + explored[:, None])

    @property
    def _count(self) -> Floats:
        return np.asarray(np.maximum(self.feasible.sum(axis=1), 1), np.float64)


def decided(
    policy: Policy,
    texts: Sequence[str],
    slo: Slo,
    values_usd: Floats,
    *,
    known: Sequence[Predicted] | None = None,
) -> Decided:
    """Decides for each text as serving does where each value (k,) is certified for the slo.

    Serving itself decides at both ends; where it agrees with the greatest value x accuracy -
    cost, that tells the rest, and else serving is asked for all. `known` is what `predicted`
    gives for the texts, where it was asked before.
    """
    asked = replace(slo, exploration_rate=0.0)
    promises = [
        Conditions(promise=Promise(certificate_id="", value_usd=float(value)))
        for value in values_usd
    ]
    shape = (len(texts), len(policy.arms))
    ends = np.zeros((len(texts), 2), np.intp)
    feasible, answered = np.zeros(shape, bool), np.zeros(len(texts), bool)
    accuracy, cost_usd, weighed_usd, doubts = (np.full(shape, np.nan) for _ in range(4))
    known = predicted(policy, texts) if known is None else known
    rows = [
        _Row(policy, text, each, asked, promises) for text, each in zip(texts, known, strict=True)
    ]
    for place, row in enumerate(rows):
        try:
            last = row.decide(-1)
        except Infeasible:
            continue
        answered[place], feasible[place] = True, last.choice.feasible
        ends[place] = row.decide(0).choice.index, last.choice.index
        accuracy[place], cost_usd[place] = last.predictions.accuracy, last.predictions.cost_usd
        weighed_usd[place], doubts[place] = row.weighed_usd(), doubt(last.predictions)
    arms = _best(accuracy, weighed_usd, feasible, values_usd)
    told = (arms[:, [0, -1]] == ends).all(axis=1) & (not slo.guarded)
    for place in np.flatnonzero(~told & answered).tolist():
        arms[place] = rows[place].arms()
    return Decided(
        arms=arms,
        feasible=feasible,
        rate=np.where(feasible.sum(axis=1) > 1, slo.exploration_rate, 0.0),
        accuracy=accuracy,
        cost_usd=cost_usd,
        answered=answered,
        directed=Directed(
            slo=slo,
            arms=arms,
            values_usd=np.array([row.values_usd() for row in rows]).reshape(arms.shape),
            feasible=feasible,
            accuracy=accuracy,
            doubt=doubts,
            cost_usd=cost_usd,
            weighed_usd=weighed_usd,
        )
        if slo.has_directed
        else None,
    )


def _best(accuracy: Floats, weighed_usd: Floats, feasible: Mask, values_usd: Floats) -> Indices:
    """The arm of the greatest value x accuracy - cost among feasible ones, (q, k)."""
    possible = feasible & ~np.isnan(accuracy)
    chosen = [
        np.where(possible, value * accuracy - weighed_usd, -np.inf).argmax(axis=1)
        for value in values_usd
    ]
    return np.stack(chosen, axis=1)


class _Row:
    """The decisions for one query, at values that rise."""

    def __init__(
        self,
        policy: Policy,
        text: str,
        known: Predicted,
        slo: Slo,
        promises: Sequence[Conditions],
    ) -> None:
        if slo.guarded and known.views is None:
            known = replace(known, views=viewed(policy, [text])[0])
        self._policy, self._known, self._slo, self._promises = policy, known, slo, promises
        self._query = Query(text=text, input_tokens=known.context.input_tokens)

    def decide(self, place: int) -> Decision:
        """The decision at the value of a place. Raises Infeasible, then at every place."""
        return pipeline.decide(
            self._policy,
            self._query,
            self._slo,
            _BOUNDS,
            decision_id=_NOBODY,
            now=_NEVER,
            predicted=self._known,
            conditions=self._promises[place],
        )

    def weighed_usd(self) -> Floats:
        """What each arm's cost counts for, (a,)."""
        table, tokens = self._policy.table, self._query.input_tokens
        conditions = self._promises[-1]
        return stand(table, self._known, self._slo, conditions, tokens).weighed_usd

    def values_usd(self) -> list[float]:
        """What a correct answer is worth to each decision, (k,)."""
        novelty = self._known.novelty
        aims = [self._policy.aim(self._slo, _BOUNDS, each, novelty) for each in self._promises]
        return [aim.value_usd or 0.0 for aim in aims]

    def arms(self) -> Indices:
        """The arm at every value as serving picks it, (k,), where no formula tells.

        An arm is best on one stretch of values, since what arms are worth is linear in the
        value: where both ends have the same arm, so has all between.
        """
        last = len(self._promises) - 1
        found = np.zeros(last + 1, np.intp)
        found[[0, last]] = [self.decide(place).choice.index for place in (0, last)]
        stretches = [(0, last)]
        while stretches:
            start, end = stretches.pop()
            if found[start] == found[end]:
                found[start:end] = found[start]
            elif end - start > 1:
                middle = (start + end) // 2
                found[middle] = self.decide(middle).choice.index
                stretches += [(start, middle), (middle, end)]
        return found


def predicted(policy: Policy, texts: Sequence[str]) -> list[Predicted]:
    """What the policy makes of each text, some texts at a time to bound memory."""
    return [
        known
        for start in range(0, len(texts), _BATCH_TEXTS)
        for known in policy.predict(texts[start : start + _BATCH_TEXTS])
    ]
