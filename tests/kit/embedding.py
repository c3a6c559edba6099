"""What many tests need and none may change: the embedder, loaded once."""

from __future__ import annotations

from functools import cache

from router.bundle.embedder import load_embedder
from router.policy.embedding import StaticEmbedder
from training.learning.contexts import Encoded
from training.log.dataset import Dataset


@cache
def embedder() -> StaticEmbedder:
    """The packaged embedder."""
    return load_embedder()


def encoded(dataset: Dataset) -> Encoded:
    """The dataset's queries, encoded."""
    return Encoded.of(dataset.queries, embedder())
