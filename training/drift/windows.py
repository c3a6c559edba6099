"""What drift is looked for in: the queries and outcomes of a window, and what may move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from router.types import Floats
from training.drift.tests import Change
from training.log.dataset import Indices


class Kind(StrEnum):
    """What may move.

    Query mix: the distance in total variation of the clusters' shares. Topic: one
    cluster's share. Separation: how well a classifier tells the windows' queries apart,
    its AUC less 0.5. Accuracy: scores less predicted accuracies. Price: cost over what the
    catalog says. Latency: over the predicted median. Latency bound: the share above the
    predicted 0.95 quantile. Calibration: the slope of scores on predicted log-odds.
    """

    MIX = "query mix"
    TOPIC = "topic"
    SEPARATION = "separation"
    ACCURACY = "accuracy"
    PRICE = "price"
    LATENCY = "latency"
    LATENCY_BOUND = "latency bound"
    CALIBRATION = "calibration"

    @property
    def is_ratio(self) -> bool:
        """Whether it is compared by its logarithm, and told as now / before - 1."""
        return self in {Kind.PRICE, Kind.LATENCY}


@dataclass(frozen=True, kw_only=True)
class Queries:
    """q queries in the order of their arrival: texts, embeddings (q, d) and who asked (q,).

    A `subject` has the same number in both windows; without any, each query stands alone.
    """

    texts: Sequence[str]
    vectors: Floats
    subject: Indices | None = None

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def unit(self) -> Indices:
        """What counts as one piece of evidence, (q,)."""
        return np.arange(len(self)) if self.subject is None else self.subject

    def take(self, which: Indices) -> Queries:
        """The queries at some indices."""
        return Queries(
            texts=[self.texts[place] for place in which.tolist()],
            vectors=self.vectors[which],
            subject=None if self.subject is None else self.subject[which],
        )


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """n outcomes; every array is (n,), NaN where a figure is missing, and `query` an index.

    Predictions are the active policy's, for both windows: those of queries that it was
    trained on are out of fold. `weight` is 1 / propensity, bounded, where it is known.
    `catalog_usd` is what the tokens cost by the catalog as it was at training. Latencies of
    one `hour` depend on each other, so an hour counts as one piece of evidence.
    """

    query: Indices
    arm: Indices
    score: Floats
    accuracy: Floats
    weight: Floats
    cost_usd: Floats
    catalog_usd: Floats
    latency_s: Floats
    latency_p50_s: Floats
    latency_p95_s: Floats
    hour: Indices | None = None

    def __len__(self) -> int:
        return len(self.query)


@dataclass(frozen=True, kw_only=True)
class Window:
    """What was asked and what came of it in some time."""

    queries: Queries
    outcomes: Outcomes


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """A figure that was compared, as it is before any control of false alarms."""

    kind: Kind
    where: str
    change: Change


@dataclass(frozen=True, slots=True, kw_only=True)
class Untold:
    """A figure that could not be compared, and why not."""

    kind: Kind
    where: str
    why: str
