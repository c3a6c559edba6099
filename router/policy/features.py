"""From a query to its context: text features and a projection of its embedding."""

from __future__ import annotations

import hashlib
import json
import math
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from router.policy.arms import ARM_FEATURES
from router.policy.embedding import Embedder
from router.policy.signals import SIGNALS
from router.policy.words import BUCKETS, Words, words
from router.types import Floats

TEXT_FEATURES = (
    "text_log_chars",
    "text_log_tokens",
    "text_log_words",
    "text_mean_word_chars",
    "text_log_lines",
    "text_log_numbers",
    "text_max_number_digits",
    "text_digit_share",
    "text_upper_share",
    "text_symbol_share",
    "text_non_ascii_share",
    "text_log_questions",
    "text_log_options",
    "text_log_commas",
    "text_code",
    "text_log_operators",
)
"""Names of the columns of `text_features`."""

ROW_FEATURES = TEXT_FEATURES + SIGNALS + ARM_FEATURES
"""Names of the columns of a (query, arm) row."""

_SCANNED_CHARS = 4_000
_NUMBER = re.compile(r"[0-9]+")
_OPTION = re.compile(r"[A-J][).:]\s")
_CODE_MARKS = ("```", "def ", "class ", "return ", ";\n", "{\n", "}\n")

_DIGIT, _UPPER, _OPERATOR, _SYMBOL, _NON_ASCII = range(1, 6)


def _classes() -> NDArray[np.uint8]:
    classes = np.zeros(256, np.uint8)
    classes[[ord(each) for each in string.punctuation]] = _SYMBOL
    classes[[ord(each) for each in "-+*/=^<>"]] = _OPERATOR
    classes[[ord(each) for each in string.digits]] = _DIGIT
    classes[[ord(each) for each in string.ascii_uppercase]] = _UPPER
    classes[128:] = _NON_ASCII
    return classes


_CLASSES = _classes()


def text_features(text: str, tokens: int) -> list[float]:
    """The features of a text, in the order of TEXT_FEATURES.

    Only the first 2,000 and the last 2,000 characters are scanned, so that a long text
    costs no more than a short one. A character beyond ASCII counts its UTF-8 bytes.
    """
    chars = len(text)
    if chars > _SCANNED_CHARS:
        text = text[: _SCANNED_CHARS // 2] + text[-_SCANNED_CHARS // 2 :]
    classes = _CLASSES[np.frombuffer(text.encode(errors="replace"), np.uint8)]
    counts = np.bincount(classes, minlength=_NON_ASCII + 1).tolist()
    numbers = _NUMBER.findall(text) if counts[_DIGIT] else []
    scanned = max(len(classes), 1)
    words = text.count(" ") + 1
    symbols = counts[_SYMBOL] + counts[_OPERATOR]
    return [
        math.log1p(chars),
        math.log1p(tokens),
        math.log1p(words),
        scanned / words,
        math.log1p(text.count("\n")),
        math.log1p(len(numbers)),
        float(max(map(len, numbers), default=0)),
        counts[_DIGIT] / scanned,
        counts[_UPPER] / scanned,
        symbols / scanned,
        counts[_NON_ASCII] / scanned,
        math.log1p(text.count("?")),
        math.log1p(len(_OPTION.findall(text))) if counts[_UPPER] else 0.0,
        math.log1p(text.count(",")),
        1.0 if any(mark in text for mark in _CODE_MARKS) else 0.0,
        math.log1p(counts[_OPERATOR]),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """A query as numbers: `values` has shape (f,), f as in FeatureSpec.context_names."""

    values: Floats
    words: Words
    input_tokens: int


@dataclass(frozen=True)
class FeatureSpec:
    """How a context is made; its digest stands in the bundle and in no other bundle.

    `components` has shape (p, d) and `mean` (d,): the projection of a d-dimensional
    embedding to p principal components. `bounds` (2, f) are the least and the greatest
    value of each column in training: a context is cut to them, so that no model is asked
    beyond what it has seen.
    """

    embedder: str
    embedder_digest: str
    mean: Floats
    components: Floats
    bounds: Floats

    @cached_property
    def context_names(self) -> tuple[str, ...]:
        """Names of the context's columns."""
        projected = tuple(f"embedding_{index}" for index in range(len(self.components)))
        return TEXT_FEATURES + projected

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns of a (query, arm) row."""
        return ROW_FEATURES

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of the names, the embedder, the projection and the bounds."""
        names = [self.context_names, BUCKETS, self.names]
        head = json.dumps([names, self.embedder, self.embedder_digest]).encode()
        parts = (self.components, self.mean, self.bounds)
        body = b"".join(np.ascontiguousarray(part).tobytes() for part in parts)
        return hashlib.sha256(head + body).hexdigest()

    def contexts(self, texts: Sequence[str], embedder: Embedder) -> list[Context]:
        """The contexts of some queries; together or one by one, they are the same bit for bit."""
        found = embedder.encode_many(texts)
        projected = np.matvec(self.components, found.vectors - self.mean)
        counts = found.counts.tolist()
        scanned = np.array(list(map(text_features, texts, counts)))
        values = self.cut(np.hstack((scanned, projected)))
        return [
            Context(values=row, words=words(tokens), input_tokens=count)
            for row, tokens, count in zip(values, found.tokens, counts, strict=True)
        ]

    def cut(self, values: Floats) -> Floats:
        """Contexts (f,) or (n, f) within the bounds."""
        return np.asarray(np.minimum(np.maximum(values, self.bounds[0]), self.bounds[1]))
