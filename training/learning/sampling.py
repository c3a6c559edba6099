"""Adaptive sampling: what logged samples teach about votes.

Samples of one query are exchangeable, so each group of them is polled in several orders.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import betainc, logit
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from router.policy.sampling import (
    LEADER,
    OTHER,
    RUNNER_UP,
    SamplingModel,
    SamplingRule,
    States,
    states,
)
from router.types import Floats, Mask
from training.log.dataset import Dataset, Indices
from training.log.samples import Polled, Samples, polled

LEAST_GROUPS = 50
"""Groups of samples that a log needs to teach anything about votes."""

_LEVELS = 5
_LEAST_LEVEL_GROUPS = 100
_ORDERS = 8
_PRIOR_GROUPS = 100.0
_PRIOR_ARM_SAMPLES = 20.0
_CLIP = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmAccuracy:
    """The accuracy of one sample of each arm, by key, and of all arms together."""

    by_arm: Mapping[str, float]
    pooled: float

    @classmethod
    def of(cls, samples: Samples) -> ArmAccuracy:
        """Means over samples, each arm's shrunk towards that of all."""
        arms, arm = np.unique(np.array(samples.arm), return_inverse=True)
        pooled = float(samples.score.sum() / samples.drawn.sum())
        right = np.bincount(arm, samples.score.sum(axis=1)) + _PRIOR_ARM_SAMPLES * pooled
        means = right / (np.bincount(arm, samples.drawn) + _PRIOR_ARM_SAMPLES)
        return cls(by_arm=dict(zip(arms.tolist(), means.tolist(), strict=True)), pooled=pooled)

    def at(self, samples: Samples) -> Floats:
        """That of each group's arm, (g,)."""
        return np.array([self.by_arm.get(arm, self.pooled) for arm in samples.arm])


def at_groups(samples: Samples, dataset: Dataset, accuracy: Floats) -> Floats:
    """The predicted accuracy (q, a) of each group's query and arm, (g,).

    NaN where the dataset has not got the query or the arm.
    """
    queries = {text: place for place, text in enumerate(dataset.queries)}
    arms = {arm.key: place for place, arm in enumerate(dataset.arms)}
    padded = np.pad(accuracy, ((0, 1), (0, 1)), constant_values=np.nan)
    query = [queries.get(text, -1) for text in samples.query]
    arm = [arms.get(key, -1) for key in samples.arm]
    return np.asarray(padded[query, arm])


def fit(samples: Samples, predicted: Floats, *, seed: int) -> SamplingModel | None:
    """Learns what votes lead to; None from fewer than 50 groups.

    `predicted` (g,) is the accuracy predicted of one sample of each group: out of fold for
    its query, or the arm's (`ArmAccuracy`); groups where it is NaN are left out. States are
    counted in each level of it, and shrunk towards a logistic model over all of them.
    """
    samples, predicted = samples.take(~np.isnan(predicted)), predicted[~np.isnan(predicted)]
    if len(samples) < LEAST_GROUPS:
        return None
    edges = _edges(predicted)
    level = np.searchsorted(edges, predicted, side="right")
    center = np.bincount(level, predicted) / np.bincount(level)
    known = states(samples.answer.shape[1])
    counts = _counted(samples, level, known, np.random.default_rng(seed))
    features = _features(known, center)
    accuracy = _shrunk(counts.right, features)[:, :, 1]
    accuracy[:, known.votes.leader == 0] = 0.0
    moves = _shrunk(counts.moves, features)
    return SamplingModel(
        edges=edges, accuracy=_consistent(accuracy, moves, known), moves=moves, most=known.most
    )


def _edges(predicted: Floats) -> Floats:
    """Edges between at most 5 levels of about equally many groups, none of them empty.

    Each lies in the middle of a gap, as predictions that are means of arms are few.
    """
    count = int(np.clip(len(predicted) // _LEAST_LEVEL_GROUPS, 1, _LEVELS))
    values = np.unique(predicted)
    above = np.searchsorted(values, np.quantile(predicted, np.arange(1, count) / count))
    above = np.unique(np.clip(above, 1, len(values) - 1)) if len(values) > 1 else above[:0]
    return np.asarray((values[above - 1] + values[above]) / 2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted:
    """How many groups, `right` (l, s, 2) by whether what leads is, `moves` (l, s, 3) by move."""

    right: Floats
    moves: Floats


def _counted(samples: Samples, level: Indices, known: States, rng: np.random.Generator) -> _Counted:
    levels, size = int(level.max()) + 1, len(known.votes.drawn)
    right, moves = np.zeros((levels * size, 2)), np.zeros((levels * size, 3))
    free = exchangeable(samples)
    real = np.arange(known.most) < samples.drawn[:, None]
    start = np.broadcast_to(level[:, None] * size, real.shape)[real]
    for _ in range(_ORDERS):
        found = polled(samples.reordered(rng, free))
        after = known.at(found.votes)
        before = np.hstack((np.zeros((len(samples), 1), np.intp), after[:, :-1]))
        score, share = found.score[real], 1.0 / _ORDERS
        right[:, 0] += np.bincount(start + after[real], share * (1.0 - score), len(right))
        right[:, 1] += np.bincount(start + after[real], share * score, len(right))
        np.add.at(moves.reshape(-1), 3 * (start + before[real]) + _moves(found)[real], share)
    shape = (levels, size, -1)
    return _Counted(right=right.reshape(shape), moves=moves.reshape(shape))


def exchangeable(samples: Samples) -> Mask:
    """Groups (g,) of arms of which all groups have as many samples.

    Elsewhere a rule may have stopped some of them, and the order tells when.
    """
    arm = np.unique(np.array(samples.arm), return_inverse=True)[1]
    most, least = np.zeros(arm.max() + 1), np.full(arm.max() + 1, np.inf)
    np.maximum.at(most, arm, samples.drawn)
    np.minimum.at(least, arm, samples.drawn)
    return np.asarray((most == least)[arm])


def _moves(found: Polled) -> Indices:
    """What each sample (g, n) added to."""
    leads, follows = (
        np.diff(votes, axis=1, prepend=0) > 0
        for votes in (found.votes.leader, found.votes.runner_up)
    )
    return np.where(leads, LEADER, np.where(follows, RUNNER_UP, OTHER))


def _features(known: States, center: Floats) -> Floats:
    """What the logistic models see of each level and state, (l, s, f), standardised."""
    drawn, leader, runner_up = (
        each.astype(float)
        for each in (known.votes.drawn, known.votes.leader, known.votes.runner_up)
    )
    total = np.maximum(drawn, 1.0)
    ahead = logit(np.clip(betainc(runner_up + 1, leader + 1, 0.5), 1e-4, 1 - 1e-4))
    share, log_drawn = leader / total, np.log1p(drawn)
    lead, tied = (leader - runner_up) / np.sqrt(total), leader == runner_up
    alone, none = runner_up == 0, leader == 0
    own = np.stack((share, runner_up / total, lead, ahead, log_drawn, tied, alone, none), axis=1)
    level = logit(np.clip(center, _CLIP, 1.0 - _CLIP))[:, None, None]
    crossed = level * np.stack((np.ones_like(share), share, ahead, log_drawn), axis=1)
    features = np.concatenate((np.broadcast_to(own, (len(center), *own.shape)), crossed), axis=2)
    flat = features.reshape(-1, features.shape[2])
    return np.asarray(StandardScaler().fit_transform(flat)).reshape(features.shape)


def _shrunk(counts: Floats, features: Floats) -> Floats:
    """Shares of counts (l, s, c), shrunk towards a logistic model of the features (l, s, f)."""
    ways = counts.shape[2]
    weight, rows = counts.reshape(-1), features.reshape(-1, features.shape[2])
    which = np.flatnonzero(weight > 0)
    prior = np.zeros((len(rows), ways))
    seen = np.unique(which % ways)
    if len(seen) == 1:
        prior[:, seen] = 1.0
    else:
        model = LogisticRegression(max_iter=500)
        model.fit(rows[which // ways], which % ways, sample_weight=weight[which])
        prior[:, seen] = model.predict_proba(rows)
    total = counts.sum(axis=2, keepdims=True)
    return np.asarray(
        (counts + _PRIOR_GROUPS * prior.reshape(counts.shape)) / (total + _PRIOR_GROUPS)
    )


def _consistent(accuracy: Floats, moves: Floats, known: States) -> Floats:
    """Makes the accuracy (l, s) of a clear leader the mean of what may follow.

    While a leader stays ahead a sample says nothing of its answer on average; only behind a
    tie does another answer take over. Without it, noise would pass for a gain of drawing.
    """
    accuracy = accuracy.copy()
    model = SamplingModel(edges=np.empty(0), accuracy=accuracy, moves=moves, most=known.most)
    for drawn in range(known.most - 1, 0, -1):
        clear = (known.votes.drawn == drawn) & (known.votes.leader > known.votes.runner_up)
        places = np.flatnonzero(clear)
        accuracy[:, places] = model.next(accuracy[:, :, None], places)[:, :, 0]
    return accuracy


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """Where a rule stopped each group: `drawn` samples and the `score` of its answer, (g,)."""

    drawn: Indices
    score: Floats


def stopped(rule: SamplingRule, found: Polled) -> Stopped:
    """Walks groups until the rule has enough, or the log has no more samples."""
    enough = rule.enough(found.votes)
    enough[:, -1] = True
    rows, place = np.arange(len(enough)), enough.argmax(axis=1)
    return Stopped(drawn=found.votes.drawn[rows, place], score=found.score[rows, place])
