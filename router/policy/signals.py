"""Signals: what queries like this one say of each arm, before the trees weigh it.

Four estimates of an arm's accuracy around a context: a kernel ridge regression, the
success rate in the neighbourhood, a linear probe, and one of the words. Each is the arm's
mean, plus what all arms share there (how hard such queries are), plus what is the arm's
own. The log is summed up in a fixed number of landmarks and of buckets, so that a
decision's cost does not grow with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from router.policy.bundled import Bundled
from router.policy.words import BUCKETS, Words
from router.types import Arm, Floats

SIGNALS = (
    "signal_kernel",
    "signal_neighbours",
    "signal_probe",
    "signal_words",
    "signal_kernel_shared",
    "signal_neighbours_shared",
    "signal_probe_shared",
    "signal_words_shared",
)
"""Names of the signals, all of them log-odds; the second half is the same for every arm."""

_OWN = len(SIGNALS) // 2
_LEAST = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalArrays(Bundled):
    """What was learnt of a arms over contexts (f,) with k landmarks.

    A context lies at (context - center) x scale, cut to +-limit, all (f,), among the
    `landmarks` (k, f); the kernel is exp(-squared distance / `bandwidth`), squared for
    neighbours. `mean` () and `base` (a,) are the mean accuracy of all rows and of each
    arm's. `kernel` (k, 1 + a) and `probe` (1 + f, 1 + a), a bias first, weigh what is shared
    and what is each arm's own, and so do `words` (w, 1 + a) for the buckets of words, whose
    squared inverse document frequencies are `rarity` (w,). `sums` and `counts` (k, a) are, by
    landmark, the scores above `base` and the weights of its rows; `shrinkage` () rows' worth
    of what is shared is added to those of an arm. `weights` (s,) and `intercepts` (a,) bring
    the signals to the log-odds that the trees start from.
    """

    PREFIX: ClassVar[str] = "signal_"

    center: Floats
    scale: Floats
    limit: Floats
    landmarks: Floats
    bandwidth: Floats
    mean: Floats
    base: Floats
    kernel: Floats
    probe: Floats
    words: Floats
    rarity: Floats
    sums: Floats
    counts: Floats
    shrinkage: Floats
    weights: Floats
    intercepts: Floats

    def bind(self, place: Mapping[str, int], arms: Sequence[Arm], base: Floats) -> SignalArrays:
        """The arrays of these arms, whose places are known by their keys.

        One without a place has what is shared, around its `base` (a,) alone.
        """
        found = np.array([place.get(arm.key, -1) for arm in arms], np.intp)
        known = found >= 0
        own = np.concatenate(([0], found + 1))
        blank = np.concatenate(([True], known))
        return SignalArrays(
            **{name: getattr(self, name) for name in self.__slots__ if name not in _PER_ARM},
            base=np.where(known, self.base[found], base),
            kernel=np.where(blank, self.kernel[:, own], 0.0),
            probe=np.where(blank, self.probe[:, own], 0.0),
            words=np.where(blank, self.words[:, own], 0.0),
            sums=np.where(known, self.sums[:, found], 0.0),
            counts=np.where(known, self.counts[:, found], 0.0),
            intercepts=np.where(known, self.intercepts[found], self.intercepts.mean()),
        )


_PER_ARM = frozenset({"base", "kernel", "probe", "words", "sums", "counts", "intercepts"})


class Signals:
    """The signals of a row of arms. Pure and thread-safe."""

    def __init__(self, arrays: SignalArrays) -> None:
        """Raises ValueError when the words are not those that texts are read into."""
        if len(arrays.words) != BUCKETS or len(arrays.rarity) != BUCKETS:
            raise ValueError(f"words have {len(arrays.words)} buckets, not {BUCKETS}")
        self._arrays = arrays
        self._arms = len(arrays.base)
        self._landmarks = np.ascontiguousarray(2.0 * arrays.landmarks)
        self._lengths = (arrays.landmarks**2).sum(axis=1)
        self._kernel = np.ascontiguousarray(arrays.kernel.T)
        self._tables = np.ascontiguousarray(np.hstack((arrays.sums, arrays.counts)).T)
        self._bias, self._probe = arrays.probe[0], np.ascontiguousarray(arrays.probe[1:].T)
        self._words = np.ascontiguousarray(np.hstack((arrays.words, arrays.rarity[:, None])))

    def __call__(self, contexts: Floats, words: Sequence[Words]) -> Floats:
        """The signals of contexts (n, f) and the words of each, shape (n, a, s).

        Contexts that are read together come out the same bit for bit.
        """
        place = self.place(contexts)
        return self.at(place, self.nearness(place), words)

    def at(self, place: Floats, near: Floats, words: Sequence[Words]) -> Floats:
        """The signals of contexts whose place (n, f) and nearness (n, k) are known."""
        neighbours = self._neighbours(near)
        found = np.stack(
            (
                np.matvec(self._kernel, near),
                neighbours,
                np.matvec(self._probe, place) + self._bias,
                np.array([self._said(each) for each in words]),
            ),
            axis=2,
        )
        shared = found[:, :1]
        signals = np.empty((len(place), self._arms, len(SIGNALS)))
        signals[:, :, :_OWN] = found[:, 1:] + shared * _ADDED + self._arrays.base[:, None]
        signals[:, :, _OWN:] = shared + self._arrays.mean
        return log_odds(signals)

    def start(self, signals: Floats) -> Floats:
        """The log-odds (n, a) of signals (n, a, s) that the trees start from."""
        return np.asarray(np.matvec(signals, self._arrays.weights) + self._arrays.intercepts)

    def place(self, contexts: Floats) -> Floats:
        """Where contexts (n, f) lie among the landmarks."""
        arrays = self._arrays
        place = (contexts - arrays.center) * arrays.scale
        return np.asarray(np.minimum(np.maximum(place, -arrays.limit), arrays.limit))

    def nearness(self, place: Floats) -> Floats:
        """The kernel between places (n, f) and each landmark, shape (n, k), in (0, 1]."""
        near = np.matvec(self._landmarks, place)
        near -= self._lengths
        near -= (place * place).sum(axis=1, keepdims=True)
        np.minimum(near, 0.0, out=near)
        near /= self._arrays.bandwidth
        return np.asarray(np.exp(near, out=near))

    def _neighbours(self, near: Floats) -> Floats:
        """What neighbours' scores are above the base: of all arms, then of each, (n, 1 + a)."""
        found = np.matvec(self._tables, near * near)
        sums, counts = found[:, : self._arms], found[:, self._arms :]
        least = self._arrays.shrinkage
        shared = sums.sum(axis=1) / (counts.sum(axis=1) + least * self._arms / 2.0)
        own = (sums + least * shared[:, None]) / (counts + least)
        return np.hstack((shared[:, None], own))

    def _said(self, words: Words) -> Floats:
        """What a text's words say: of all arms, then of each, (1 + a,)."""
        total: Floats = np.add.reduce(self._words.take(words, axis=0), axis=0)
        return np.asarray(total[:-1] / np.sqrt(max(float(total[-1]), _LEAST_RARITY)))


_ADDED = np.array([1.0, 0.0, 1.0, 1.0])  # the neighbours' own rate has the shared one in it
_LEAST_RARITY = 1e-9


def log_odds(probability: Floats) -> Floats:
    """Log-odds of probabilities, none nearer than 0.02 to 0 or 1."""
    cut = np.minimum(np.maximum(probability, _LEAST), 1.0 - _LEAST)
    return np.asarray(np.log(cut / (1.0 - cut)))
