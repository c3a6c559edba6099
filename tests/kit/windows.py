"""Windows for drift, drawn from full-information logs, with planted changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from router.bundle.embedder import load_embedder
from router.policy.embedding import Embedder
from router.types import Arm, Floats
from tests.kit.shared_data import SHARED_DATA
from training.drift.windows import Outcomes, Queries, Window
from training.log.dataset import Dataset, Indices
from training.log.sources import read

LATENCY_SIGMA = 0.5
_FOLDS = 2


@dataclass(frozen=True, kw_only=True)
class Source:
    """q queries with their figures for every arm (q, a), and what a policy predicted of them."""

    texts: tuple[str, ...]
    vectors: Floats
    arms: tuple[Arm, ...]
    score: Floats
    accuracy: Floats
    cost_usd: Floats
    latency_s: Floats
    latency_p50_s: Floats
    latency_p95_s: Floats
    kind: tuple[str, ...] = ()

    @classmethod
    def of(cls, dataset: Dataset, embedder: Embedder, kinds: Mapping[str, str]) -> Source:
        """The queries that have every arm; latencies that are not recorded are drawn.

        `kinds` says by its text from which collection a query is.
        """
        score, cost = dataset.table("score"), dataset.table("cost_usd")
        full = np.flatnonzero(~np.isnan(score + cost).any(axis=1))
        texts = tuple(dataset.queries[place] for place in full.tolist())
        vectors = embedder.encode_many(texts).vectors.astype(np.float64)
        latency = dataset.table("latency_s")[full]
        drawn = np.exp(LATENCY_SIGMA * np.random.default_rng(0).normal(size=latency.shape))
        latency = np.where(np.isnan(latency), drawn, latency)
        usual = _foretold(vectors, np.log(latency))
        late = np.quantile(np.log(latency) - usual, 0.95, axis=0)
        return cls(
            texts=texts,
            vectors=vectors,
            arms=dataset.arms,
            score=score[full],
            accuracy=np.clip(_foretold(vectors, score[full]), 0.02, 0.98),
            cost_usd=cost[full],
            latency_s=latency,
            latency_p50_s=np.exp(usual),
            latency_p95_s=np.exp(usual + late),
            kind=tuple(kinds.get(text, "") for text in texts),
        )

    def window(
        self,
        places: Indices,
        rng: np.random.Generator,
        *,
        arms: Sequence[int] | None = None,
        subject: Indices | None = None,
    ) -> Window:
        """A window of queries, each answered by one arm at random."""
        picked = rng.choice(len(self.arms) if arms is None else np.array(arms), len(places))
        cell = places, picked
        found = Outcomes(
            query=np.arange(len(places)),
            arm=picked,
            score=self.score[cell],
            accuracy=self.accuracy[cell],
            weight=np.ones(len(places)),
            cost_usd=self.cost_usd[cell],
            catalog_usd=self.cost_usd[cell],
            latency_s=self.latency_s[cell],
            latency_p50_s=self.latency_p50_s[cell],
            latency_p95_s=self.latency_p95_s[cell],
        )
        queries = Queries(
            texts=[self.texts[place] for place in places.tolist()],
            vectors=self.vectors[places],
            subject=subject,
        )
        return Window(queries=queries, outcomes=found)


@cache
def shared_source(name: str) -> Source:
    """The source of a shared table."""
    table = read(SHARED_DATA / f"{name}.parquet").table
    kinds = dict(zip(table["query"].to_pylist(), table["dataset"].to_pylist(), strict=True))
    named = {text: kind or "" for text, kind in kinds.items()}
    return Source.of(Dataset.from_table(table), load_embedder(), named)


def _foretold(vectors: Floats, figures: Floats) -> Floats:
    """Out-of-fold predictions of figures (q, a) by ridge regression, (q, a)."""
    fold = np.arange(len(vectors)) % _FOLDS
    found = np.zeros_like(figures)
    for place in range(_FOLDS):
        model = Ridge(alpha=5.0).fit(vectors[fold != place], figures[fold != place])
        found[fold == place] = model.predict(vectors[fold == place])
    return found


def changed(window: Window, **how: Callable[[Outcomes], NDArray[Any]]) -> Window:
    """The window with some figures of its outcomes worked out anew."""
    made = {name: make(window.outcomes) for name, make in how.items()}
    return replace(window, outcomes=replace(window.outcomes, **made))


def fewer_right(arm: int, share: float, rng: np.random.Generator) -> Callable[[Outcomes], Floats]:
    """Turns a share of all answers of an arm, of its right ones, wrong."""

    def scores(found: Outcomes) -> Floats:
        own = found.arm == arm
        right = float(found.score[own].mean())
        lost = own & (rng.random(len(found)) < share / right)
        return np.asarray(np.where(lost, 0.0, found.score))

    return scores
