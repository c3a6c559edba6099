"""Replay: walking recorded queries as if they were asked now, many of them together.

Every decision is the one that Route and Continue would make; only the numbers of a step
are worked out for all queries of a part at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

import numpy as np

from router import pipeline
from router.conditions import PLAIN
from router.errors import Infeasible
from router.policy.continuation import Aim, Tried, affordable, walk
from router.policy.evidence import Indices, probit
from router.policy.exploration import explore, exploring
from router.policy.first import first
from router.policy.planning import Ahead
from router.policy.policy import Policy, Predicted
from router.policy.standing import Standing, Together, stand
from router.slo import Slo
from router.types import Arm, Bounds, Evidence, Floats, Mask, Query


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A query with its caller's id."""

    query_id: str
    text: str


class Recorded(Protocol):
    """A query of an outcome log: which arms have a row, and what a row shows once attempted."""

    @property
    def asked(self) -> Asked:
        """The query."""

    @property
    def arms(self) -> Collection[str]:
        """Keys of the arms that have a row."""

    def attempt(self, arm: str) -> Evidence:
        """What the row of the arm shows: confidence, cost and latency, never its score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What a policy did with a recorded query: its attempts and whose answer it kept.

    Without attempts there is the reason why no arm could be run.
    """

    query_id: str
    attempts: tuple[tuple[Arm, Evidence], ...] = ()
    final: Arm | None = None
    reason: str = ""


class Part:
    """Some recorded queries with what the policy makes of them before any slo."""

    def __init__(
        self,
        policy: Policy,
        log: Sequence[Recorded],
        known: Mapping[str, Predicted],
        *,
        keep: bool,
    ) -> None:
        """Takes the predictions by text; `keep` keeps in memory what every slo plans with."""
        self.policy, self.log = policy, log
        self.known = [known[each.asked.text] for each in log]
        self.bounds = [Bounds(allowed_arms=frozenset(each.arms), may_continue=True) for each in log]
        self._ahead = self._plan() if keep else None
        self._keep = keep

    def replay(self, slo: Slo, identify: Callable[[str], UUID]) -> Iterator[Replayed]:
        """Walks every query under the slo; `identify` gives a decision's id by the query's."""
        ahead = self._ahead if self._keep else self._plan()
        standings = [self.standing(place, slo) for place in range(len(self.log))]
        first = [
            self._first(place, standing, slo, identify, ahead)
            for place, standing in enumerate(standings)
        ]
        places = [place for place, arm in enumerate(first) if isinstance(arm, int)]
        walk = _Walk(self, places, [standings[place] for place in places], slo)
        walked = iter(walk.walk([arm for arm in first if isinstance(arm, int)]))
        for place, arm in enumerate(first):
            if isinstance(arm, int):
                yield next(walked)
            else:
                query_id = self.log[place].asked.query_id
                yield Replayed(query_id=query_id, reason=arm.message)

    def query(self, place: int) -> Query:
        """The query as the policy was asked it."""
        text, known = self.log[place].asked.text, self.known[place]
        return Query(text=text, input_tokens=known.context.input_tokens)

    def standing(self, place: int, slo: Slo) -> Standing:
        """How the query's arms stand, nothing being out of the ordinary."""
        known = self.known[place]
        tokens = known.context.input_tokens
        return stand(self.policy.table, known, slo, PLAIN, tokens)

    def _plan(self) -> Ahead | None:
        continuation = self.policy.informing
        if continuation is None:
            return None
        return continuation.ahead(np.array([each.predictions.accuracy for each in self.known]))

    def _first(
        self,
        place: int,
        standing: Standing,
        slo: Slo,
        identify: Callable[[str], UUID],
        ahead: Ahead | None,
    ) -> int | Infeasible:
        own = ahead and ahead.row(place)
        query, bounds = self.query(place), self.bounds[place]
        aim = self.policy.aim(slo, bounds, PLAIN, standing.novelty)
        try:
            [choice] = first(
                self.policy, Together.of([standing]), query, slo, bounds, aim=aim, ahead=own
            )
        except Infeasible as error:
            return error
        if isinstance(choice, Infeasible):
            return choice
        if slo.exploration_rate:
            drawn = pipeline.uniform(identify(self.log[place].asked.query_id))
            how = exploring(choice, standing, slo, aim.value_usd)
            choice = explore(choice, how.rate, drawn, how.odds)
        return choice.index


class _Walk:
    """The walks of the queries at some places of a part, under one slo."""

    def __init__(
        self, part: Part, places: Sequence[int], standing: Sequence[Standing], slo: Slo
    ) -> None:
        self._part, self._places, self._standing, self._slo = part, places, standing, slo
        self._tried: list[list[Tried]] = [[] for _ in places]
        self._eligible = [
            part.policy.table.eligible(part.query(place), slo, part.bounds[place])
            for place in places
        ]

    def walk(self, first: Sequence[int]) -> Iterator[Replayed]:
        """One result per place; attempts are made step by step, all queries together."""
        policy, arms = self._part.policy, np.array(first, np.intp)
        continuation = policy.informing
        if continuation is None or not len(arms):
            self._attempt(np.arange(len(arms)), arms)
            return map(self._replayed, range(len(arms)), first)
        accuracy = np.array([each.predictions.accuracy for each in self._standing])
        cost_usd = np.array([each.weighed_usd for each in self._standing])
        aim = Aim.of(self._slo, policy.aim(self._slo, _WILLING))
        evidence, mu = continuation.evidence, probit(accuracy)

        def shown(rows: Indices, tried: Indices) -> Floats:
            return evidence.surprise(tried, mu[rows, tried], self._attempt(rows, tried))

        walked = walk(evidence, (accuracy, cost_usd), arms, aim, shown=shown, left=self._left)
        return map(self._replayed, range(len(arms)), walked.kept.tolist())

    def _attempt(self, rows: Indices, arms: Indices) -> Floats:
        """The confidences of attempts; the only place where the log's rows are read."""
        confidence = np.full(len(rows), np.nan)
        for place, (row, arm) in enumerate(zip(rows.tolist(), arms.tolist(), strict=True)):
            key = self._part.policy.table.keys[arm]
            evidence = self._part.log[self._places[row]].attempt(key)
            self._tried[row].append(Tried(index=arm, evidence=evidence))
            if evidence.confidence is not None:
                confidence[place] = evidence.confidence
        return confidence

    def _left(self, rows: Indices, _tried: Indices) -> Mask:
        left = np.array([self._eligible[row] for row in rows])
        bounds = (self._slo.max_cost_usd, self._slo.max_latency_s, self._slo.max_energy_wh)
        if any(bound is not None for bound in bounds):
            left &= [
                affordable(self._standing[row].predictions, self._tried[row], self._slo, _WILLING)
                for row in rows
            ]
        return left

    def _replayed(self, row: int, kept: int) -> Replayed:
        arms = self._part.policy.arms
        return Replayed(
            query_id=self._part.log[self._places[row]].asked.query_id,
            attempts=tuple((arms[each.index], each.evidence) for each in self._tried[row]),
            final=arms[kept],
        )


_WILLING = Bounds(may_continue=True)
