"""Novelty: how unlike the training queries a context is, from what serving has worked out.

A text is remote as far as it lies from its nearest landmark and as its words are rare; how
remote training queries are of what was learnt without them says how unlikely that is.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from router.policy.bundled import Bundled
from router.policy.words import Words
from router.types import Floats

NOVEL = 0.995
"""From this novelty on a query is not taken for one like those of training."""

_LEAST_NEARNESS = 1e-300


@dataclass(frozen=True, slots=True, kw_only=True)
class NoveltyArrays(Bundled):
    """How remote training queries were, each of what was learnt without its fold.

    Both parts of remoteness count from their `center` (2,) in units of `scale` (2,);
    `reference` (r,) rises.
    """

    PREFIX: ClassVar[str] = "novelty_"

    center: Floats
    scale: Floats
    reference: Floats

    @classmethod
    def found(cls, arrays: Mapping[str, Floats]) -> Self | None:
        """Those of a bundle; None where it has none, as those written before there were any."""
        return cls.from_mapping(arrays) if cls.PREFIX + "reference" in arrays else None

    def remoteness(self, parts: Floats) -> Floats:
        """Both parts (n, 2) as one number, (n,)."""
        away = (parts - self.center) / self.scale
        return np.asarray(away[:, 0] + away[:, 1])


class Rareness:
    """How rare a text's words are. Pure and thread-safe."""

    def __init__(self, rarity: Floats) -> None:
        """Takes the squared inverse document frequencies of buckets (w,), 0 where unseen.

        An unseen bucket counts as the rarest one with half as many texts.
        """
        rarest = math.sqrt(float(rarity.max(initial=0.0)))
        self._frequency = np.where(rarity > 0.0, np.sqrt(rarity), rarest + math.log(2.0))

    def __call__(self, words: Words) -> float:
        """The mean inverse document frequency of a text's words; 0 where it has none."""
        return float(np.add.reduce(self._frequency.take(words))) / max(len(words), 1)


def parts(near: Floats, words: Sequence[Words], rareness: Rareness) -> list[tuple[float, float]]:
    """How remote n texts are by their place, near (n, k) to the landmarks, and by their words."""
    nearest: list[float] = near.max(axis=1).tolist()
    return [
        (-math.log(max(closest, _LEAST_NEARNESS)), rareness(each))
        for closest, each in zip(nearest, words, strict=True)
    ]


class Novelty:
    """The novelty of texts. Pure and thread-safe."""

    def __init__(self, arrays: NoveltyArrays, rarity: Floats) -> None:
        """Takes what was learnt of texts alone and of their words' rarity (w,)."""
        self._rareness = Rareness(rarity)
        self._center: tuple[float, float] = tuple(arrays.center.tolist())
        self._scale: tuple[float, float] = tuple(arrays.scale.tolist())
        self._reference: list[float] = arrays.reference.tolist()

    def __call__(self, near: Floats, words: Sequence[Words]) -> list[float]:
        """The share of training queries that are less remote, for each of n texts.

        Their nearness to the landmarks is (n, k). A conformal p-value (Vovk and others
        2005), subtracted from 1: with r queries in the reference, one like them reaches x
        with a probability of at most 1 - x, and none reaches more than r / (r + 1).
        """
        return [self._share(*each) for each in parts(near, words, self._rareness)]

    def _share(self, place: float, words: float) -> float:
        place = (place - self._center[0]) / self._scale[0]
        words = (words - self._center[1]) / self._scale[1]
        return bisect_left(self._reference, place + words) / (len(self._reference) + 1)


def is_novel(novelty: float | None) -> bool:
    """Whether a query is so unlike those of training that the policy is not to be relied on."""
    return novelty is not None and novelty >= NOVEL
