"""Deterministic splits by the hash of a query's text, so that no text stands on both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from router.types import Floats, Mask
from training.log.dataset import Dataset, Indices


def holdout(texts: Sequence[str], share: float, seed: int = 0) -> Mask:
    """Which queries are held out, shape (q,); about `share` of them."""
    return _uniform(texts, f"holdout {seed}") < share


def held_out(dataset: Dataset, share: float, seed: int = 0) -> Mask:
    """The holdout of a dataset, shape (q,); nobody, where a side would have no scored row."""
    held = held_texts(dataset.queries, share, seed)
    scored = held[dataset.rows.query[dataset.scored]]
    return held if scored.any() and not scored.all() else np.zeros_like(held)


def held_texts(texts: Sequence[str], share: float, seed: int) -> Mask:
    """Which texts (n,) are held out for figures.

    It does not follow `holdout`, by which the log itself may have been split before.
    """
    return _uniform(texts, f"held out {seed}") < share


def folds(texts: Sequence[str], count: int, seed: int = 0) -> Indices:
    """The fold of each query, shape (q,), from 0 to count - 1; independent of the holdout."""
    return np.asarray(_uniform(texts, f"folds {seed}") * count, dtype=np.intp)


def coins(names: Sequence[str], seed: int) -> Mask:
    """A fair coin per name, shape (n,), that falls the same every time."""
    return _uniform(names, f"coin {seed}") < 0.5


def normalised(text: str) -> str:
    """What texts that differ in case or white space alone share."""
    return " ".join(text.split()).casefold()


def _uniform(texts: Sequence[str], salt: str) -> Floats:
    """A number in [0, 1) per text; normalised texts decide."""
    return np.array([_hash(normalised(text), salt) for text in texts])


def _hash(text: str, salt: str) -> float:
    data = text.encode(errors="replace")
    digest = hashlib.blake2b(data, digest_size=8, key=salt.encode()).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)
