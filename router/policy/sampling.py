"""Adaptive sampling: how many samples of an arm to draw for one vote.

The answers of the samples are voted on. After each sample, or batch of samples, a rule says
whether the answer that leads is good enough, or one more is to be drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np
from scipy.special import betainc

from router.policy.evidence import Indices
from router.types import Floats, Mask

MOST_SAMPLES = 40
"""Samples beyond these are not planned for: Adaptive-Consistency's bound."""

LEADER, RUNNER_UP, OTHER = range(3)
"""What a sample adds to: the leader's votes, the runner-up's, or neither's."""

_PRICES = np.geomspace(1e-6, 1.0, 512)


@dataclass(frozen=True, slots=True, kw_only=True)
class Votes:
    """The state of votes, arrays of one shape: one vote each.

    `drawn` counts all samples, also those without an answer; `leader` and `runner_up` are
    the two greatest counts of votes for one answer.
    """

    drawn: Indices
    leader: Indices
    runner_up: Indices

    @classmethod
    def of(cls, answers: Sequence[str | None]) -> Votes:
        """The votes of one query's samples so far, shape (); None is a sample without answer."""
        counts = sorted(_counts(answers).values(), reverse=True)
        leader, runner_up = (*counts, 0, 0)[:2]
        return cls(drawn=_index(len(answers)), leader=_index(leader), runner_up=_index(runner_up))

    def settled(self, most: int) -> Mask:
        """Whether the samples that are left of `most` cannot change the answer that leads."""
        return np.asarray(self.leader - self.runner_up > most - self.drawn)


def _index(count: int) -> Indices:
    return np.asarray(count, np.intp)


def _counts(answers: Sequence[str | None]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for answer in answers:
        if answer is not None:
            counts[answer] = counts.get(answer, 0) + 1
    return counts


def voted(answers: Sequence[str | None]) -> str | None:
    """The answer with most votes, of equals the one that got there first; None without any."""
    counts: dict[str, int] = {}
    leader: str | None = None
    for answer in answers:
        if answer is not None:
            counts[answer] = counts.get(answer, 0) + 1
            leader = answer if leader is None or counts[answer] > counts[leader] else leader
    return leader


class SamplingRule(Protocol):
    """Says when to stop drawing samples.

    The laws: it is a pure function of the votes, elementwise; it is never content before
    the first sample, and always once its most samples are drawn.
    """

    def enough(self, votes: Votes) -> Mask:
        """Whether to keep the answer that leads (True) or to draw one more, in votes' shape."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedSamples:
    """Plain self-consistency: always so many samples."""

    samples: int

    def enough(self, votes: Votes) -> Mask:
        """As SamplingRule says."""
        return np.asarray(votes.drawn >= self.samples)


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Adaptive-Consistency: stops when the leader is likely to stay ahead of the runner-up.

    With v1 and v2 their votes and a uniform prior, P(p1 > p2 | v1, v2) = I_1/2(v2 + 1, v1 + 1),
    the regularised incomplete beta function; it stops at `threshold` or above. Source:
    Aggarwal, Madaan, Yang, Mausam 2023, "Let's Sample Step by Step", the Beta criterion.
    """

    threshold: float = 0.95
    most: int = MOST_SAMPLES

    def enough(self, votes: Votes) -> Mask:
        """As SamplingRule says."""
        ahead = betainc(votes.runner_up + 1.0, votes.leader + 1.0, 0.5)
        done = votes.settled(self.most) | (votes.drawn >= self.most)
        return np.asarray((votes.drawn > 0) & ((ahead >= self.threshold) | done))


@dataclass(frozen=True, kw_only=True)
class States:
    """Every state that a vote of at most `most` samples can be in, s of them, fewest drawn first.

    `votes` has shape (s,); `place` (most + 1, most + 1, most + 1) finds a state by its
    samples drawn, votes of the leader and of the runner-up; -1 where there is none.
    """

    most: int
    votes: Votes
    place: Indices

    def at(self, votes: Votes) -> Indices:
        """The places of some votes; those of more than `most` samples are scaled down to it."""
        over = np.maximum(votes.drawn, self.most)
        counts = (votes.drawn, votes.leader, votes.runner_up)
        drawn, leader, runner_up = (count * self.most // over for count in counts)
        return self.place[drawn, leader, runner_up]

    def after(self, places: Indices, what: int) -> Indices:
        """Where the states at some places lead when a sample adds to `what`.

        As there is no runner-up behind a tie, whatever adds to one makes a leader.
        """
        votes = self.votes
        drawn, leader, runner_up = (
            each[places] for each in (votes.drawn, votes.leader, votes.runner_up)
        )
        second = (what == RUNNER_UP) & (runner_up < leader)
        first = (what != OTHER) & ~second
        return self.place[drawn + 1, leader + first, runner_up + second]


@cache
def states(most: int) -> States:
    """The states of votes of at most `most` samples."""
    drawn, leader, runner_up = np.indices((most + 1,) * 3)
    real = (runner_up <= leader) & (leader + runner_up <= drawn)
    place = np.full(real.shape, -1, np.intp)
    place[real] = np.arange(real.sum())
    votes = Votes(drawn=drawn[real], leader=leader[real], runner_up=runner_up[real])
    return States(most=most, votes=votes, place=place)


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingModel:
    """What votes lead to, by l levels of predicted accuracy and s states.

    `edges` (l - 1,) part the levels by the predicted accuracy of one sample. `accuracy`
    (l, s) is the probability that the answer that leads is right; `moves` (l, s, 3) that
    the next sample adds to the leader, to the runner-up, or to neither.
    """

    edges: Floats
    accuracy: Floats
    moves: Floats
    most: int

    def level(self, predicted: Floats) -> Indices:
        """The level of each predicted accuracy."""
        return np.asarray(np.searchsorted(self.edges, predicted, side="right"), np.intp)

    def belief(self, votes: Votes, predicted: Floats) -> Floats:
        """The probability that the answer that leads is right.

        `predicted` is the accuracy that was predicted of one sample; it broadcasts to votes.
        """
        return self.accuracy[self.level(predicted), states(self.most).at(votes)]

    def next(self, worth: Floats, places: Indices) -> Floats:
        """The mean (l, p, v) of a worth (l, s, v) one sample after the states at `places`."""
        total = np.zeros((len(worth), len(places), worth.shape[2]))
        for way in (LEADER, RUNNER_UP, OTHER):
            after = states(self.most).after(places, way)
            total += self.moves[:, places, way, None] * worth[:, after]
        return total

    def plan(self, most: int) -> SamplingPlan:
        """The plan for drawing at most so many samples (and no more than the model knows).

        By value iteration, last sample first: W(s) = max(P(right | s), -price + E W(next s)),
        for a grid of prices as shares of the value of a right answer. The gain of drawing
        falls with the price, so that one limit per state says all.
        """
        most = min(most, self.most)
        votes = states(self.most).votes
        limit = np.zeros_like(self.accuracy)
        worth = np.repeat(self.accuracy[:, :, None], len(_PRICES), axis=2)
        for drawn in range(most - 1, -1, -1):
            places = np.flatnonzero((votes.drawn == drawn) & ~votes.settled(most))
            draw = self.next(worth, places) - _PRICES
            limit[:, places] = np.where(draw > worth[:, places], _PRICES, 0.0).max(axis=2)
            worth[:, places] = np.maximum(worth[:, places], draw)
        return SamplingPlan(model=self, limit=limit)

    @classmethod
    def from_mapping(cls, arrays: Mapping[str, Floats]) -> SamplingModel | None:
        """Reads the model out of a bundle's arrays; None where the log had no samples."""
        if "sampling_moves" not in arrays:
            return None
        return cls(
            edges=arrays["sampling_edges"],
            accuracy=arrays["sampling_accuracy"],
            moves=arrays["sampling_moves"],
            most=int(arrays["sampling_most"]),
        )

    def to_mapping(self) -> dict[str, Floats]:
        """The model under the names of a bundle's arrays."""
        return {
            "sampling_edges": self.edges,
            "sampling_accuracy": self.accuracy,
            "sampling_moves": self.moves,
            "sampling_most": np.array(float(self.most)),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingPlan:
    """A model's plan for any value of a right answer and any price of a sample.

    `limit` (l, s) is the price, as a share of the value, from which on one more sample
    does not pay; 0 where none ever does.
    """

    model: SamplingModel
    limit: Floats

    def price_limit(self, votes: Votes, predicted: Floats) -> Floats:
        """The limit for some votes; `predicted` broadcasts to them."""
        return self.limit[self.model.level(predicted), states(self.model.most).at(votes)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """Draws as long as one more sample is worth more than its price.

    `price_usd` is the expected cost of a sample and `predicted` its predicted accuracy;
    both broadcast to the votes. The laws: under the plan's model it is never worse than
    keeping what leads, and a greater value never draws fewer samples.
    """

    plan: SamplingPlan
    value_usd: float
    price_usd: Floats
    predicted: Floats

    def enough(self, votes: Votes) -> Mask:
        """As SamplingRule says."""
        limit = self.plan.price_limit(votes, self.predicted)
        return np.asarray((votes.drawn > 0) & (self.price_usd >= self.value_usd * limit))
