"""Novelty: how unlike the training queries a context is, from what serving has worked out.

A text is remote as far as it lies from its nearest landmark and as its words are rare; how
remote training queries are of what was learnt without them says how unlikely that is.
"""

from __future__ import annotations

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
_LEAST_RARITY = 1e-9


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

    def novelty(self, parts: Floats) -> Floats:
        """The share of training queries that are less remote than parts (n, 2), shape (n,).

        A conformal p-value (Vovk and others 2005), subtracted from 1: with r queries in the
        reference, one like them reaches x with a probability of at most 1 - x, and none
        reaches more than r / (r + 1).
        """
        below = np.searchsorted(self.reference, self.remoteness(parts), side="left")
        return np.asarray(below / (len(self.reference) + 1.0))

    def remoteness(self, parts: Floats) -> Floats:
        """Both parts (n, 2) as one number, (n,)."""
        away = (parts - self.center) / self.scale
        return np.asarray(away[:, 0] + away[:, 1])


class Strangeness:
    """The parts of remoteness as what was learnt of texts has them. Pure and thread-safe."""

    def __init__(self, rarity: Floats) -> None:
        """Takes the squared inverse document frequencies of buckets (w,), 0 where unseen.

        An unseen bucket is rarer than the rarest by as much as half as many texts make.
        """
        rarest = float(rarity.max(initial=_LEAST_RARITY))
        self._frequency = np.where(rarity > 0.0, np.sqrt(rarity), np.sqrt(rarest) + np.log(2.0))

    def parts(self, near: Floats, words: Sequence[Words]) -> Floats:
        """How remote n contexts are by their place and by their words, shape (n, 2).

        -log of what is near (n, k) to the nearest landmark, and the words' mean inverse
        document frequency.
        """
        nearest = -np.log(np.maximum(near.max(axis=1), _LEAST_NEARNESS))
        rare = [float(np.add.reduce(self._frequency.take(each))) for each in words]
        counts = [max(len(each), 1) for each in words]
        return np.column_stack((nearest, np.divide(rare, counts)))


def is_novel(novelty: float | None) -> bool:
    """Whether a query is so unlike those of training that the policy is not to be relied on."""
    return novelty is not None and novelty >= NOVEL
