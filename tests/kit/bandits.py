"""Bandit logs made of full-information ones: one arm per query, by a logging policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

import numpy as np

from router.types import Floats
from training.benchmark.splits import few
from training.log.dataset import Dataset, Rows, propensity_weights

_SKEW = 2.0
_LEAST_SHARE = 0.1


def logged(full: Dataset, odds: Floats, rng: np.random.Generator) -> Dataset:
    """The log of a policy that picked each query's arm with these odds (q, a)."""
    queries, arms = len(odds), odds.shape[1]
    row = np.full((queries, arms), -1, np.intp)
    row[full.rows.query, full.rows.arm] = np.arange(len(full.rows))
    picked = (odds.cumsum(axis=1) > rng.random(queries)[:, None]).argmax(axis=1)
    place = row[np.arange(queries), picked]
    rows = full.rows.take(place[place >= 0])
    propensity = odds[rows.query, rows.arm]
    rows = replace(rows, propensity=propensity, weight=propensity_weights(propensity))
    return replace(full, rows=rows)


def drawn(full: Dataset, odds: Floats, n: int, rng: np.random.Generator) -> Dataset:
    """n decisions for queries that are drawn with replacement, with these odds (q, a)."""
    queries, arms = odds.shape
    row = np.full((queries, arms), -1, np.intp)
    row[full.rows.query, full.rows.arm] = np.arange(len(full.rows))
    query = rng.choice(np.flatnonzero((row >= 0).all(axis=1)), n)
    total = odds[query].cumsum(axis=1)
    picked = (total > rng.random(n)[:, None] * total[:, -1:]).argmax(axis=1)
    rows = full.rows.take(row[query, picked])
    propensity = odds[query, picked]
    return replace(
        full, rows=replace(rows, propensity=propensity, weight=propensity_weights(propensity))
    )


def together(one: Dataset, other: Dataset) -> Dataset:
    """The outcomes of two logs of the same queries."""
    joined = {
        each.name: np.concatenate((getattr(one.rows, each.name), getattr(other.rows, each.name)))
        for each in fields(Rows)
    }
    joined["weight"] = propensity_weights(joined["propensity"])
    return replace(one, rows=Rows(**joined))


def policies(full: Dataset) -> Mapping[str, Floats]:
    """Odds (q, a) of three logging policies.

    `uniform`; `length` sends long queries to dear arms, as the features show; `informed`
    sends hard ones there, as its own knowledge of the outcomes shows and no feature does.
    """
    score = full.table("score")
    dear = np.argsort(np.argsort(np.nanmean(full.table("cost_usd"), axis=0)))
    rank = 2.0 * dear / max(len(dear) - 1, 1) - 1.0
    length = np.log1p([len(text) for text in full.queries])
    return {
        "uniform": np.full(score.shape, 1.0 / score.shape[1]),
        "length": _skewed(length, rank),
        "informed": _skewed(-np.nanmean(score, axis=1), rank),
    }


def _skewed(signal: Floats, rank: Floats) -> Floats:
    standard = (signal - signal.mean()) / signal.std()
    odds = np.exp(_SKEW * standard[:, None] * rank)
    odds /= odds.sum(axis=1, keepdims=True)
    return np.asarray((1.0 - _LEAST_SHARE) * odds + _LEAST_SHARE / len(rank))


def as_many_outcomes(full: Dataset, outcomes: int, seed: int) -> Dataset:
    """Some queries with all their arms: about so many outcomes as a bandit log has."""
    return few(full, outcomes // len(full.arms), seed)
