"""Free-form answers that say the same, by their embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from router.policy.embedding import Embedder

LEAST_SIMILARITY = 0.75
"""Mean cosine similarity between two clusters from which on they are one."""


def clustered(
    texts: Sequence[str], embedder: Embedder, least_similarity: float = LEAST_SIMILARITY
) -> list[str]:
    """A name per text, the same for those that are alike (average linkage)."""
    if len(texts) < 2:
        return ["0"] * len(texts)
    from scipy.cluster.hierarchy import fcluster, linkage  # noqa: PLC0415 (a tenth of a start)
    from scipy.spatial.distance import squareform  # noqa: PLC0415

    vectors = embedder.encode_many(texts).vectors.astype(np.float64)
    apart = np.maximum(1.0 - vectors @ vectors.T, 0.0)
    np.fill_diagonal(apart, 0.0)
    tree = linkage(squareform(apart, checks=False), "average")
    labels = fcluster(tree, 1.0 - least_similarity, criterion="distance")
    return [str(label) for label in labels]
