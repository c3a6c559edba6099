"""From query texts to contexts: embedded once, projected by what a split's training side shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Self

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.decomposition import PCA

from router.policy.embedding import Embedder
from router.policy.features import TEXT_FEATURES, FeatureSpec
from router.policy.words import BUCKETS, Words
from router.types import Floats, Mask
from training.log.dataset import Indices

Buckets = Any
"""A sparse matrix (q, w) of scipy, whose stubs know no shapes."""

COMPONENTS = 64
_BATCH_TEXTS = 2_048


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """q queries: text features (q, t) and embeddings (q, d) with the embedder that made them.

    `words` (q, w) has a 1 for each bucket that a query's words fall into.
    """

    texts: Floats
    vectors: Floats
    words: Buckets
    embedder: Embedder

    @classmethod
    def of(cls, queries: Sequence[str], embedder: Embedder) -> Self:
        """Encodes the queries, some at a time."""
        spec = FeatureSpec(
            embedder=embedder.name,
            embedder_digest=embedder.digest,
            mean=np.zeros(embedder.dimensions),
            components=np.eye(embedder.dimensions),
            bounds=np.array([[-np.inf], [np.inf]]),
        )
        found = [
            context
            for start in range(0, len(queries), _BATCH_TEXTS)
            for context in spec.contexts(queries[start : start + _BATCH_TEXTS], embedder)
        ]
        values = np.stack([context.values for context in found])
        split = len(TEXT_FEATURES)
        return cls(
            texts=values[:, :split],
            vectors=values[:, split:],
            words=_buckets([context.words for context in found]),
            embedder=embedder,
        )

    def take(self, which: Indices) -> Encoded:
        """The queries at indices."""
        return replace(
            self, texts=self.texts[which], vectors=self.vectors[which], words=self.words[which]
        )

    @property
    def counted_tokens(self) -> Floats:
        """Input tokens of each query as the embedder counts them, shape (q,)."""
        return np.asarray(np.rint(np.expm1(self.texts[:, TEXT_FEATURES.index("text_log_tokens")])))


def _buckets(words: Sequence[Words]) -> Buckets:
    ends = np.cumsum([0, *map(len, words)])
    ones = np.ones(ends[-1], np.float32)
    return csr_matrix((ones, np.concatenate(words), ends), shape=(len(words), BUCKETS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Contexts:
    """q contexts as models read them: columns (q, f), and buckets of words (q, w)."""

    values: Floats
    buckets: Buckets

    def __len__(self) -> int:
        return len(self.values)

    def take(self, which: Mask | Indices | slice) -> Contexts:
        """The contexts of a mask, at indices or in a slice."""
        return Contexts(values=self.values[which], buckets=self.buckets[which])

    @property
    def words(self) -> list[Words]:
        """The words of each context, as serving reads them."""
        found, ends = self.buckets.indices.astype(np.intp), self.buckets.indptr
        return [found[start:end] for start, end in pairwise(ends)]


class Projection:
    """Principal components of the embeddings: an estimator from Encoded queries to contexts."""

    def __init__(self, *, components: int = COMPONENTS, seed: int = 0) -> None:
        self.components = components
        self.seed = seed

    def fit(self, encoded: Encoded, queries: Indices) -> Self:
        """Learns from the queries at these indices; one query alone gives no component."""
        vectors = encoded.vectors[queries]
        count = min(self.components, len(vectors) - 1, vectors.shape[1])
        mean, components = vectors.mean(axis=0), np.empty((0, vectors.shape[1]))
        if count > 0 and np.ptp(vectors, axis=0).any():
            fitted = PCA(count, svd_solver="covariance_eigh", random_state=self.seed).fit(vectors)
            components = fitted.components_
        seen = np.hstack((encoded.texts[queries], (vectors - mean) @ components.T))
        self.spec_ = FeatureSpec(
            embedder=encoded.embedder.name,
            embedder_digest=encoded.embedder.digest,
            mean=np.ascontiguousarray(mean, np.float64),
            components=np.ascontiguousarray(components, np.float64),
            bounds=np.stack((seen.min(axis=0), seen.max(axis=0))),
        )
        return self

    def transform(self, encoded: Encoded) -> Contexts:
        """The contexts of all queries, as the spec makes them one by one."""
        projected = (encoded.vectors - self.spec_.mean) @ self.spec_.components.T
        values = self.spec_.cut(np.hstack((encoded.texts, projected)))
        return Contexts(values=values, buckets=encoded.words)
