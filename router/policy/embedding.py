"""The embedder seam, and the static embedder that needs no network and no GPU.

A static embedder looks each token's vector up in a table and takes the mean: it costs
microseconds, and more expensive embedders hardly route better (see the design, part 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Vector = NDArray[np.float32]
Counts = NDArray[np.int64]
Tokens = NDArray[np.int64]

EDGE_CHARS = 1_500
"""Of a text longer than twice this, only its first and its last so many are embedded.

A query's task stands at its edges; the cut bounds the cost of a decision.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """n texts: unit vectors (n, d), the tokens of each in order, and their counts (n,).

    Of a text that was cut, the count is scaled up by its length. An embedder without
    tokens of its own may hash words into numbers.
    """

    vectors: NDArray[np.float32]
    tokens: Sequence[Tokens]
    counts: Counts


class Embedder(Protocol):
    """Turns text into a unit vector; pure and thread-safe: the same text, the same bits.

    `digest` is a hex SHA-256 that changes whenever a vector would.
    """

    @property
    def name(self) -> str:
        """Name by which it is asked for."""

    @property
    def digest(self) -> str:
        """Hex SHA-256 of what it computes with."""

    @property
    def dimensions(self) -> int:
        """Length d of its vectors."""

    def encode(self, text: str) -> tuple[Vector, int]:
        """The text's unit vector (d,), zeros where it has no token, and its token count."""

    def encode_many(self, texts: Sequence[str]) -> Embedded:
        """Vectors, tokens and their counts; each equal to what `encode` gives of the text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticEmbedder:
    """The mean of token vectors, scaled to unit length.

    `vectors` has shape (v, d), a row per id of the tokenizer. The token count of a text
    that was cut is scaled up by its length.
    """

    name: str
    digest: str
    dimensions: int
    tokenizer: Tokenizer
    vectors: NDArray[np.float32]

    def encode(self, text: str) -> tuple[Vector, int]:
        """As Embedder says."""
        kept = _cut(text)
        encoded = self.tokenizer.encode_batch_fast([kept], add_special_tokens=False)
        ids = np.array(encoded[0].ids, np.int64)
        return self._means([ids])[0], _scaled(len(ids), text, kept)

    def encode_many(self, texts: Sequence[str]) -> Embedded:
        """As Embedder says."""
        kept = [_cut(text) for text in texts]
        encoded = self.tokenizer.encode_batch_fast(kept, add_special_tokens=False)
        tokens = [np.array(encoding.ids, np.int64) for encoding in encoded]
        counts = map(_scaled, map(len, tokens), texts, kept)
        return Embedded(
            vectors=self._means(tokens), tokens=tokens, counts=np.fromiter(counts, np.int64)
        )

    def _means(self, tokens: Sequence[Tokens]) -> NDArray[np.float32]:
        """The unit vectors of texts by their tokens, (n, d); zeros where there is none."""
        totals = np.empty((len(tokens), self.dimensions), np.float32)
        for total, ids in zip(totals, tokens, strict=True):
            np.add.reduce(self.vectors.take(ids, axis=0, mode="clip"), axis=0, out=total)
        lengths = np.sqrt(np.vecdot(totals, totals))[:, None]
        np.divide(totals, lengths, out=totals, where=lengths > 0)
        return totals


def _cut(text: str) -> str:
    """The text's edges, with lone surrogates, which no tokenizer takes, made question marks."""
    if len(text) > 2 * EDGE_CHARS:
        text = text[:EDGE_CHARS] + text[-EDGE_CHARS:]
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="replace").decode()
    return text


def _scaled(tokens: int, text: str, kept: str) -> int:
    return tokens if len(text) == len(kept) else round(tokens * len(text) / len(kept))
