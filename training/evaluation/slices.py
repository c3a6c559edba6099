"""Slices: interactions parted by language, topic, label or tenant."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from router.types import Floats
from training.evaluation.topics import Topics
from training.log.dataset import Indices

MOST_SLICES = 20
NONE, OTHER = "(none)", "(other)"
LATIN, ACCENTED, KANA, NO_LETTERS = "Latin", "Latin with accents", "Kana", "no letters"

_READ_CHARS = 2_000
_LEAST_ACCENTED = 0.01
_LEAST_KANA = 0.05
_SCRIPTS = {"CJK": "Han", "HIRAGANA": KANA, "KATAKANA": KANA}


@dataclass(frozen=True, kw_only=True)
class Facet:
    """One way to part n interactions: `of` (n,) holds the place of each one's slice in `names`."""

    name: str
    names: tuple[str, ...]
    of: Indices

    def __len__(self) -> int:
        return len(self.names)


def facet(name: str, values: Sequence[str | None], *, most: int = MOST_SLICES) -> Facet:
    """A slice per value, in the order of their names; beyond `most` the rare ones are one."""
    counts = Counter(NONE if value is None else value for value in values)
    ranked = sorted(counts, key=lambda value: (-counts[value], value))
    common = ranked if len(ranked) <= most else ranked[: most - 1]
    names = sorted(common) + ([OTHER] if len(common) < len(counts) else [])
    place = {value: index for index, value in enumerate(names)}
    of = [place.get(NONE if value is None else value, len(names) - 1) for value in values]
    return Facet(name=name, names=tuple(names), of=np.array(of, np.intp))


def label_facets(labels: Sequence[Mapping[str, str]]) -> tuple[Facet, ...]:
    """A facet per label's name that any decision has."""
    names = sorted({name for each in labels for name in each})
    return tuple(facet(f"label {name}", [each.get(name) for each in labels]) for name in names)


def topic_facet(topics: Topics, vectors: Floats) -> Facet:
    """The topics of queries by their embeddings (n, d)."""
    return Facet(name="topic", names=topics.names, of=topics.of(vectors))


def script_facet(texts: Sequence[str]) -> Facet:
    """The script of each text, which stands for its language where no label tells that."""
    known = {text: script(text) for text in set(texts)}
    return facet("language", [known[text] for text in texts])


def script(text: str) -> str:
    """The script of most of a text's letters, by their Unicode names.

    A text in Latin letters of which 1 % are beyond ASCII is told from the others: most are
    not English. Japanese counts as kana.
    """
    text = text[:_READ_CHARS]
    if text.isascii():
        return LATIN if any(map(str.isalpha, text)) else NO_LETTERS
    letters = Counter(letter for letter in text if letter.isalpha())
    scripts: Counter[str] = Counter()
    for letter, count in letters.items():
        scripts[_script_of(letter)] += count
    total = sum(scripts.values())
    if not total:
        return NO_LETTERS
    if scripts[KANA] >= _LEAST_KANA * total:
        return KANA
    most = max(sorted(scripts), key=lambda each: scripts[each])
    accented = sum(count for letter, count in letters.items() if not letter.isascii())
    return ACCENTED if most == LATIN and accented >= _LEAST_ACCENTED * total else most


def _script_of(letter: str) -> str:
    if letter.isascii():
        return LATIN
    first = unicodedata.name(letter, "OTHER").split()[0].split("-")[0]
    return _SCRIPTS.get(first, first.capitalize())
