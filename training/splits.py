"""Deterministic splits by the hash of a query's text, so that no text stands on both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from router.types import Floats, Mask
from training.dataset import Dataset, Indices


def holdout(texts: Sequence[str], share: float, seed: int = 0) -> Mask:
    """Which queries are held out, shape (q,); about `share` of them."""
    return _uniform(texts, f"holdout {seed}") < share


def held_out(dataset: Dataset, share: float, seed: int = 0) -> Mask:
    """The holdout of a dataset, shape (q,); nobody, where a side would have no scored row.

    It does not follow `holdout`, by which the log itself may have been split before.
    """
    held = _uniform(dataset.queries, f"held out {seed}") < share
    scored = held[dataset.rows.query[dataset.scored]]
    return held if scored.any() and not scored.all() else np.zeros_like(held)


def folds(texts: Sequence[str], count: int, seed: int = 0) -> Indices:
    """The fold of each query, shape (q,), from 0 to count - 1; independent of the holdout."""
    return np.asarray(_uniform(texts, f"folds {seed}") * count, dtype=np.intp)


def _uniform(texts: Sequence[str], salt: str) -> Floats:
    """A number in [0, 1) per text; texts that differ in case or white space share it."""
    return np.array([_hash(" ".join(text.split()).casefold(), salt) for text in texts])


def _hash(text: str, salt: str) -> float:
    data = text.encode(errors="replace")
    digest = hashlib.blake2b(data, digest_size=8, key=salt.encode()).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)
