"""Samples: the rows of an outcome log that are several samples of one arm on one query."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import orjson
import pyarrow as pa

from router.policy.sampling import MOST_SAMPLES, Votes
from router.types import Arm, Floats, Mask
from training.log.dataset import Indices, floats

_GROUP = ("query_id", "query", "model", "strategy", "strategy_params", "decision_id")
_ARM = ("model", "strategy", "strategy_params")


@dataclass(frozen=True, kw_only=True)
class Samples:
    """g groups of at most n samples of one arm on one query, in the order they were drawn.

    `query` (g,) are texts and `arm` (g,) keys. `answer` (g, n) numbers the distinct answers
    of a group from 0, -1 where a sample has none; `score` (g, n) is that of the answer;
    `drawn` (g,) counts the samples, and `price_usd` (g,) is the mean cost of one, NaN where
    it is not known.
    """

    query: tuple[str, ...]
    arm: tuple[str, ...]
    answer: Indices
    score: Floats
    drawn: Indices
    price_usd: Floats

    def __len__(self) -> int:
        return len(self.query)

    @classmethod
    def from_table(cls, table: pa.Table) -> Self | None:
        """Reads the checked table of a log (`training.log.sources`); None if it has no samples.

        Samples are rows with a `sample_idx`. Groups of one sample, or with an answer that
        nobody scored, teach nothing and are left out.
        """
        table = table.filter(table["sample_idx"].is_valid())
        if not len(table) or table["answer"].null_count == len(table):
            return None
        group = _codes(table, _GROUP)
        order = np.lexsort((floats(table, "sample_idx"), group))
        made = cls._grouped(table.take(order), group[order])
        taught = (made.drawn > 1) & ~np.isnan(made.score).any(axis=1)
        return made.take(taught) if taught.any() else None

    @classmethod
    def _grouped(cls, table: pa.Table, group: Indices) -> Self:
        first, drawn = np.unique(group, return_index=True, return_counts=True)[1:]
        place = np.arange(len(group)) - first[group]
        kept = place < MOST_SAMPLES
        cell = (group[kept], place[kept])
        shape = (len(first), min(int(drawn.max()), MOST_SAMPLES))
        answer, score = np.full(shape, -1, np.intp), np.zeros(shape)
        answer[cell], score[cell] = (each[kept] for each in _answers(table, group))
        heads = table.take(first)
        return cls(
            query=tuple(heads["query"].to_pylist()),
            arm=tuple(map(_arm_key, *(heads[name].to_pylist() for name in _ARM))),
            answer=answer,
            score=score,
            drawn=np.minimum(drawn, MOST_SAMPLES),
            price_usd=_means(floats(table, "cost_usd"), group, len(first)),
        )

    def take(self, which: Mask) -> Self:
        """The groups of a mask (g,)."""
        chosen = np.flatnonzero(which)
        arrays = {item.name: getattr(self, item.name) for item in fields(self)}
        arrays |= {name: arrays[name][chosen] for name in ("answer", "score", "drawn", "price_usd")}
        arrays |= {name: tuple(arrays[name][row] for row in chosen) for name in ("query", "arm")}
        return type(self)(**arrays)

    def of_queries(self, texts: Collection[str]) -> Self:
        """The groups of the queries of some texts."""
        known = frozenset(texts)
        return self.take(np.array([text in known for text in self.query], bool))

    def reordered(self, rng: np.random.Generator, which: Mask) -> Self:
        """The same, with the samples of the groups of a mask (g,) in a random order."""
        width = self.answer.shape[1]
        key = np.where(which[:, None], rng.random(self.answer.shape), np.arange(width))
        key[np.arange(width) >= self.drawn[:, None]] = width
        order = np.argsort(key, axis=1, kind="stable")
        return type(self)(
            query=self.query,
            arm=self.arm,
            answer=np.take_along_axis(self.answer, order, axis=1),
            score=np.take_along_axis(self.score, order, axis=1),
            drawn=self.drawn,
            price_usd=self.price_usd,
        )


@dataclass(frozen=True, kw_only=True)
class Polled:
    """The votes (g, n) after each sample of each group, and `score` (g, n) of what leads.

    Beyond a group's last sample the votes stay as they are.
    """

    votes: Votes
    score: Floats


def polled(samples: Samples) -> Polled:
    """Votes after each sample; of equals the answer that got there first leads."""
    groups, width = samples.answer.shape
    rows = np.arange(groups)
    counts = np.zeros((groups, width + 1), np.intp)
    leader, score = np.zeros(groups, np.intp), np.zeros(groups)
    found = np.zeros((4, groups, width))
    for place in range(width):
        answer = samples.answer[:, place]
        counts[rows, answer] += answer >= 0
        more = counts[rows, answer] > counts[rows, leader]
        ahead = (answer >= 0) & (more | (answer == leader))
        leader = np.where(ahead, answer, leader)
        score = np.where(ahead, samples.score[:, place], score)
        second, first = np.partition(counts, -2, axis=1)[:, -2:].T
        found[:, :, place] = np.minimum(place + 1, samples.drawn), first, second, score
    drawn, first, second = found[:3].astype(np.intp)
    return Polled(votes=Votes(drawn=drawn, leader=first, runner_up=second), score=found[3])


def _codes(table: pa.Table, names: tuple[str, ...]) -> Indices:
    """The number of each row's group, groups sorted by the texts of these columns."""
    codes = np.zeros(len(table), np.intp)
    for name in names:
        column = table[name].fill_null("").dictionary_encode().combine_chunks()
        rank = np.argsort(np.argsort(np.array(column.dictionary.to_pylist(), object)))
        places = rank[column.indices.to_numpy()]
        _, codes = np.unique(codes * (len(rank) + 1) + places, return_inverse=True)
    return np.asarray(codes, np.intp)


def _answers(table: pa.Table, group: Indices) -> tuple[Indices, Floats]:
    """The number of each row's answer in its group, -1 for none, and that answer's score.

    The score is the mean over the group's samples of that answer, 0 where there is none.
    """
    column = table["answer"].dictionary_encode().combine_chunks()
    answer = column.indices.fill_null(-1).to_numpy()
    pair, where = np.unique(group * (len(column.dictionary) + 1) + answer + 1, return_inverse=True)
    none = answer < 0
    score = _means(floats(table, "score"), where, len(pair))[where]
    start = np.unique(pair // (len(column.dictionary) + 1), return_index=True)[1]
    number = where - start[group]
    return np.where(none, -1, number), np.where(none, 0.0, score)


def _means(values: Floats, where: Indices, count: int) -> Floats:
    known = ~np.isnan(values)
    total = np.bincount(where[known], values[known], minlength=count)
    seen = np.bincount(where[known], minlength=count)
    means = np.divide(total, seen, out=np.full(count, np.nan), where=seen > 0)
    return np.asarray(means)


def _arm_key(model: str, strategy: str, params: str) -> str:
    return Arm(model=model, strategy=strategy, params=orjson.loads(params)).key
