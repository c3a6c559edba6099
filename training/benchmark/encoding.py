"""Texts as numbers for the ways that need them, embedded once."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from router.policy.embedding import Embedder
from router.types import Floats
from training.learning.contexts import Encoded
from training.log.dataset import Dataset


class Encoder:
    """Embeds the queries of a dataset; remembers the last few datasets. Not thread-safe."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self._encoded = lru_cache(maxsize=4)(self._encode)

    def vectors(self, dataset: Dataset) -> Floats:
        """Embeddings of the queries, each of length 1 (or 0, for an empty text), (q, d)."""
        vectors = self._encoded(dataset.queries).vectors
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.where(length > 0, length, 1.0), np.float64)

    def features(self, dataset: Dataset) -> Floats:
        """Embeddings and text features of the queries, (q, d + t)."""
        return np.hstack((self.vectors(dataset), self._encoded(dataset.queries).texts))

    def _encode(self, queries: tuple[str, ...]) -> Encoded:
        return Encoded.of(queries, self.embedder)
