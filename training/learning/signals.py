"""Learns the signals: landmarks, kernel ridge, neighbourhood sums and linear probes per arm."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.sparse import diags
from sklearn.cluster import MiniBatchKMeans
from sklearn.linear_model import Ridge
from sklearn.metrics import pairwise_distances_argmin
from sklearn.preprocessing import normalize

from router.policy.features import TEXT_FEATURES
from router.policy.novelty import Rareness, parts
from router.policy.signals import SIGNALS, SignalArrays, Signals
from router.types import Floats, Mask
from training.learning.contexts import Buckets, Contexts
from training.log.dataset import Indices, Rows

LANDMARKS = 1_024
BANDWIDTH = 0.3
SHRINKAGE_ROWS = 1.0
_BASE_ROWS = 20.0
_KERNEL_PENALTY, _PROBE_PENALTY = 4.0, 20.0
_WORD_PENALTY, _OWN_WORD_PENALTY = 3.0, 10.0
_OWN_PENALTY = 2.0
_TEXT_SHARE = 0.3
_TEXT_LIMIT = 4.0
_PROBE_TEXT = 0.1
_MOST_QUERIES = 20_000
_LEAST_LANDMARKS, _QUERIES_PER_LANDMARK = 512, 5
_RIDGE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cells:
    """Mean scores and weights of q queries and a arms, both (q, a); a weight is 0 where none."""

    score: Floats
    weight: Floats

    @classmethod
    def of(cls, rows: Rows, queries: Indices, arms: int) -> Self:
        """The cells of scored rows; their queries are among `queries`, which rise."""
        shape = (len(queries), arms)
        cell = np.ravel_multi_index((np.searchsorted(queries, rows.query), rows.arm), shape)
        weight = np.bincount(cell, rows.weight, shape[0] * arms).astype(np.float64)
        total = np.bincount(cell, rows.weight * rows.score, shape[0] * arms)
        score = np.divide(total, weight, out=np.zeros_like(total), where=weight > 0)
        return cls(score=score.reshape(shape), weight=weight.reshape(shape))

    def take(self, queries: Mask | Indices) -> _Cells:
        return _Cells(score=self.score[queries], weight=self.weight[queries])

    def above(self, base: Floats) -> Floats:
        """Scores above the arms' base (a,), shape (q, a); 0 where none."""
        return np.where(self.weight > 0, self.score - base, 0.0)

    def total(self) -> Floats:
        """Each query's weight, (q,)."""
        return np.asarray(self.weight.sum(axis=1))

    def shared(self, base: Floats) -> Floats:
        """The mean of each query's scores above the base, (q,); 0 where none."""
        above, total = (self.weight * self.above(base)).sum(axis=1), self.total()
        return np.asarray(np.divide(above, total, where=total > 0, out=np.zeros_like(total)))


class SignalModel:
    """Learns the arrays of `router.policy.signals` but for how the signals are stacked."""

    def __init__(self, *, arms: int, seed: int) -> None:
        self.arms = arms
        self.seed = seed

    def fit(self, contexts: Contexts, rows: Rows) -> Self:
        """Learns from the scored rows alone; contexts are indexed by the rows' queries."""
        scored = rows.take(~np.isnan(rows.score))
        queries = np.unique(scored.query)
        cells = _Cells.of(scored, queries, self.arms)
        mean, base = _means(cells)
        values = contexts.values[queries]
        space, few = _Space.of(values), _sample(queries, self.seed)
        places, sampled = space.place(values[few]), cells.take(few)
        landmarks = _landmarks(places, self.seed)
        sums, counts = by_landmark(space.place(values), landmarks, cells.above(base), cells.weight)
        near = _kernel(places, landmarks)
        inner = _KERNEL_PENALTY * _kernel(landmarks, landmarks)
        probe = np.hstack((np.ones((len(places), 1)), places))
        penalty = np.diag(np.concatenate(([_RIDGE], space.probe_penalty())))
        said, rarity = _said(contexts.buckets[queries[few]], sampled, base)
        self.arrays_ = SignalArrays(
            center=space.center,
            scale=space.scale,
            limit=space.limit,
            landmarks=landmarks,
            bandwidth=np.array(BANDWIDTH),
            mean=np.array(mean),
            base=base,
            kernel=_ridges(near, sampled, base, inner),
            probe=_ridges(probe, sampled, base, penalty),
            words=said,
            rarity=rarity,
            sums=sums,
            counts=counts,
            shrinkage=np.array(SHRINKAGE_ROWS),
            weights=np.full(len(SIGNALS), 1.0 / len(SIGNALS)),
            intercepts=np.zeros(self.arms),
        )
        self.signals_ = Signals(self.arrays_)
        return self

    def signals(self, contexts: Contexts) -> Floats:
        """The signals of n contexts, shape (n, a, s)."""
        return self.signals_(contexts.values, contexts.words)

    def remoteness(self, contexts: Contexts) -> Floats:
        """The parts of remoteness of n contexts, shape (n, 2)."""
        near = self.signals_.nearness(self.signals_.place(contexts.values))
        return np.array(parts(near, contexts.words, Rareness(self.arrays_.rarity)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Space:
    """Where contexts lie, so that a distance of 1 is far; text features count for less."""

    center: Floats
    scale: Floats
    limit: Floats

    @classmethod
    def of(cls, contexts: Floats) -> Self:
        text = len(TEXT_FEATURES)
        center, spread = contexts.mean(axis=0), contexts.std(axis=0)
        length = max(float(np.sqrt((spread[text:] ** 2).sum())), 1e-6)
        factor = np.sqrt(_TEXT_SHARE / text)
        scale = np.full(contexts.shape[1], np.sqrt(0.5) / length)
        scale[:text] = factor / (spread[:text] + 0.1)
        limit = np.full(contexts.shape[1], np.inf)
        limit[:text] = _TEXT_LIMIT * factor
        return cls(center=center, scale=scale, limit=limit)

    def place(self, contexts: Floats) -> Floats:
        place = contexts - self.center
        place *= self.scale
        return np.clip(place, -self.limit, self.limit, out=place)

    def probe_penalty(self) -> Floats:
        """What the probe pays per squared weight; for text features more, as one varies more."""
        text = len(TEXT_FEATURES)
        units = np.full(len(self.scale), np.sqrt(0.5))
        units[:text] = np.sqrt(_TEXT_SHARE / text) / _PROBE_TEXT
        return _PROBE_PENALTY * units**2


def _means(cells: _Cells) -> tuple[float, Floats]:
    """The mean score of all rows, and each arm's, shrunk to it as by 20 rows, (a,)."""
    weight, total = cells.weight.sum(axis=0), (cells.weight * cells.score).sum(axis=0)
    mean = float(total.sum() / weight.sum())
    return mean, (total + _BASE_ROWS * mean) / (weight + _BASE_ROWS)


def _sample(queries: Indices, seed: int) -> Indices:
    """Places of the queries that the regressions see: all, or so many drawn at random."""
    if len(queries) <= _MOST_QUERIES:
        return np.arange(len(queries))
    drawn = np.random.default_rng(seed).choice(len(queries), _MOST_QUERIES, replace=False)
    return np.sort(drawn)


def _landmarks(places: Floats, seed: int) -> Floats:
    """At most 1,024 places (k, f) that stand for all: the centres of their clusters."""
    different = np.unique(places, axis=0)
    most = int(np.clip(len(places) // _QUERIES_PER_LANDMARK, _LEAST_LANDMARKS, LANDMARKS))
    if len(different) <= most:
        return different
    clusters = MiniBatchKMeans(
        most,
        init="random",
        n_init=1,
        max_iter=20,
        batch_size=4_096,
        reassignment_ratio=0,
        random_state=seed,
    )
    return np.unique(clusters.fit(different).cluster_centers_, axis=0)


def _kernel(one: Floats, other: Floats) -> Floats:
    """The kernel between places (n, f) and (k, f), shape (n, k)."""
    distance = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2.0 * one @ other.T
    return np.asarray(np.exp(np.minimum(-distance, 0.0) / BANDWIDTH))


def by_landmark(
    place: Floats, landmarks: Floats, above: Floats, weight: Floats
) -> tuple[Floats, Floats]:
    """By the landmark nearest to each place (n, f): scores above the base, and weights.

    One arm's are (n,) and come out as (k,), those of a arms (n, a) and (k, a).
    """
    sums, counts = np.zeros((2, len(landmarks), *weight.shape[1:]))
    if len(place):
        nearest = pairwise_distances_argmin(place, landmarks)
        np.add.at(sums, nearest, weight * above)
        np.add.at(counts, nearest, weight)
    return sums, counts


def _ridges(columns: Floats, cells: _Cells, base: Floats, penalty: Floats) -> Floats:
    """Ridge weights (c, 1 + a) over columns (q, c): of what all arms share, then each arm's own.

    The first is fitted to the mean of a query's scores above the base, the others to what
    it leaves, at twice the penalty: what an arm has of its own is shrunk to what is shared.
    """
    total = cells.total()
    weights = np.zeros((columns.shape[1], 1 + cells.score.shape[1]))
    weights[:, 0] = ridge(columns, cells.shared(base), total / total.mean(), penalty)
    rest = cells.above(base) - (columns @ weights[:, 0])[:, None]
    for arm, gram in enumerate(_grams(columns, cells.weight)):
        mine, weight = rest[:, arm], cells.weight[:, arm]
        weights[:, 1 + arm] = ridge(columns, mine, weight, _OWN_PENALTY * penalty, gram=gram)
    return weights


def _grams(columns: Floats, weight: Floats) -> Iterator[Floats]:
    """Each arm's weighted Gram matrix; arms that most queries have share one, less the gaps."""
    whole: Floats | None = None
    even = bool((weight[weight > 0] == 1.0).all())
    for mine in weight.T:
        gap = mine == 0
        if even and gap.mean() < 0.5:
            whole = columns.T @ columns if whole is None else whole
            yield whole - columns[gap].T @ columns[gap]
        else:
            seen = columns[~gap]
            yield (seen.T * mine[~gap]) @ seen


def ridge(
    columns: Floats,
    target: Floats,
    weight: Floats,
    penalty: Floats,
    *,
    gram: Floats | None = None,
) -> Floats:
    """Ridge weights (c,) of columns (n, c) for a target (n,); zeros without rows.

    `gram` (c, c) is the weighted Gram matrix of the columns, where it is known.
    """
    known = (columns.T * weight) @ columns if gram is None else gram
    least = _RIDGE * np.eye(len(penalty))
    return np.asarray(np.linalg.solve(known + penalty + least, columns.T @ (weight * target)))


def _said(buckets: Buckets, cells: _Cells, base: Floats) -> tuple[Floats, Floats]:
    """Ridge weights of buckets (q, w), shape (w, 1 + a), and their rarity (w,).

    As `_ridges`, on texts as unit vectors of inverse document frequencies. The weights are
    those of a bucket that a text has, before the text's length is divided by.
    """
    rarity = _rarity(buckets)
    columns = normalize(buckets @ diags(np.sqrt(rarity)))
    above, shared = cells.above(base), cells.shared(base)
    weights = np.zeros((columns.shape[1], 1 + cells.score.shape[1]))
    weights[:, 0], found = _sparse_ridge(columns, shared, cells.total(), _WORD_PENALTY)
    for arm, weight in enumerate(cells.weight.T):
        rest = above[:, arm] - found
        weights[:, 1 + arm], _ = _sparse_ridge(columns, rest, weight, _OWN_WORD_PENALTY)
    return weights * np.sqrt(rarity)[:, None], rarity


def _rarity(buckets: Buckets) -> Floats:
    """The squared inverse document frequency of each bucket (w,); 0 where one text has it."""
    count = np.bincount(buckets.indices, minlength=buckets.shape[1])
    frequency = np.log((1.0 + buckets.shape[0]) / (1.0 + count)) + 1.0
    return np.where(count > 1, frequency**2, 0.0)


def _sparse_ridge(
    columns: Buckets, target: Floats, weight: Floats, penalty: float
) -> tuple[Floats, Floats]:
    """Ridge weights without a bias (w,), and what they give each row (q,)."""
    seen = weight > 0
    if not seen.any():
        return np.zeros(columns.shape[1]), np.zeros(columns.shape[0])
    model = Ridge(alpha=penalty, solver="sparse_cg", tol=1e-3, fit_intercept=False)
    share = weight[seen] / weight[seen].mean()
    model.fit(columns[seen], target[seen], share)
    return np.asarray(model.coef_, np.float64), np.asarray(columns @ model.coef_, np.float64)
