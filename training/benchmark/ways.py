"""Ways of choosing arms: what is benchmarked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from router.types import Floats
from training.log.dataset import Dataset, Indices


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """What a way predicted for q queries and a arms before any attempt.

    `accuracy` (q, a); `latency_s` (q, a, 3) are the quantiles of LATENCY_QUANTILES, None
    where a way predicts none.
    """

    accuracy: Floats
    latency_s: Floats | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Walked:
    """What a way spent and reached, for v accuracy values and q queries.

    `cost_usd` and `score` (v, q) are true ones: the sum over all attempts, and the score
    of the answer that was kept. `tried` (v, q, m) are the arms attempted, -1 where there
    were fewer; None where they are not told.
    """

    cost_usd: Floats
    score: Floats
    predicted: Predicted | None = None
    tried: Indices | None = None


class Way(Protocol):
    """Learns from one log and chooses for the queries of another. Not thread-safe.

    `walk` comes after `fit`, and answers for the test's queries in their order and for
    each value in turn. It may read what an attempt shows only for arms that it attempts,
    and a score never; only the oracle does.
    """

    @property
    def name(self) -> str:
        """What figures call it; unique in a benchmark."""

    def fit(self, train: Dataset) -> Self:
        """Learns from a log, in which queries may lack arms."""

    def walk(self, test: Dataset, values_usd: Floats) -> Walked:
        """Chooses for each query at each value in dollars of a correct answer (v,)."""


def spent(chosen: Indices, test: Dataset, predicted: Predicted | None = None) -> Walked:
    """What single attempts with the chosen arms (v, q) cost and scored."""
    queries = np.arange(len(test.queries))
    return Walked(
        cost_usd=test.table("cost_usd")[queries, chosen],
        score=test.table("score")[queries, chosen],
        predicted=predicted,
        tried=chosen[:, :, None],
    )


def best_arms(accuracy: Floats, cost_usd: Floats, values_usd: Floats) -> Indices:
    """The arms of the greatest value x accuracy - cost, (v, q), for predictions (q, a).

    An arm whose accuracy or cost is not known (NaN) is taken for none.
    """
    return np.stack([_best(value * accuracy - cost_usd) for value in values_usd])


def _best(utility: Floats) -> Indices:
    return np.asarray(np.where(np.isnan(utility), -np.inf, utility).argmax(axis=1), np.intp)


def pooled(parts: Sequence[Walked]) -> Walked:
    """What a way did on the queries of several folds together."""
    predicted = [each.predicted for each in parts]
    return Walked(
        cost_usd=np.hstack([each.cost_usd for each in parts]),
        score=np.hstack([each.score for each in parts]),
        predicted=_pooled([each for each in predicted if each is not None]),
        tried=_every([each.tried for each in parts]),
    )


def _every(parts: Sequence[Indices | None]) -> Indices | None:
    """The attempts of all parts, each filled up to the most; None where one is not told."""
    known = [each for each in parts if each is not None]
    if len(known) < len(parts):
        return None
    most = max(each.shape[2] for each in known)
    room = [((0, 0), (0, 0), (0, most - each.shape[2])) for each in known]
    filled = [np.pad(*each, constant_values=-1) for each in zip(known, room, strict=True)]
    return np.asarray(np.concatenate(filled, axis=1), np.intp)


def _pooled(parts: Sequence[Predicted]) -> Predicted | None:
    if not parts:
        return None
    latency_s = [each.latency_s for each in parts if each.latency_s is not None]
    return Predicted(
        accuracy=np.vstack([each.accuracy for each in parts]),
        latency_s=np.concatenate(latency_s) if latency_s else None,
    )
