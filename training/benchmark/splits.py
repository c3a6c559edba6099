"""Splits of outcome logs into what the ways learn from and what they are judged on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from router.errors import InvalidInput
from router.types import Floats, Mask
from training.log.dataset import Dataset, Indices
from training.log.splits import folds, holdout

LEAST_TEST_QUERIES = 20
_OUTER_SEED = 1 << 20
"""Added to the seed: a split like one of the training's own would leave that one empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Both sides over the same arms; every test query has a score and a cost for each arm.

    `seen` counts test queries left out because training has their text, `partial` those
    left out because they lack an arm; `left_out_arms` are keys of arms that only one side has.
    """

    train: Dataset
    test: Dataset
    seen: int = 0
    partial: int = 0
    left_out_arms: tuple[str, ...] = ()


def of_logs(train: Dataset, test: Dataset) -> Split:
    """The split that two logs are. Raises InvalidInput when nothing is left to judge on."""
    keys = {arm.key for arm in train.arms} & {arm.key for arm in test.arms}
    every = {arm.key for arm in train.arms} | {arm.key for arm in test.arms}
    if not keys:
        raise InvalidInput("the two logs have no arm in common", field="test")
    known = set(map(_folded, train.queries))
    new = np.array([_folded(text) not in known for text in test.queries], bool)
    train = _with_arms(train, keys)
    unseen = _with_arms(part(test, new), keys)
    whole = _has_every_arm(unseen)
    if whole.sum() < LEAST_TEST_QUERIES:
        raise InvalidInput(
            f"{whole.sum()} queries that training has not seen have a score and a cost for "
            f"each of the {len(keys)} arms; at least {LEAST_TEST_QUERIES} are needed",
            field="test",
        )
    return Split(
        train=train,
        test=part(unseen, whole),
        seen=int((~new).sum()),
        partial=int((~whole).sum()),
        left_out_arms=tuple(sorted(every - keys)),
    )


def held_out(log: Dataset, share: float, seed: int) -> Split:
    """One split by the hash of the query's text; about `share` of the queries are judged on."""
    held = holdout(log.queries, share, seed + _OUTER_SEED)
    return of_logs(part(log, ~held), part(log, held))


def folded(log: Dataset, count: int, seed: int) -> Iterator[Split]:
    """One split per fold, by the hash of the query's text."""
    fold = folds(log.queries, count, seed + _OUTER_SEED)
    for number in range(count):
        yield of_logs(part(log, fold != number), part(log, fold == number))


def part(dataset: Dataset, queries: Mask) -> Dataset:
    """The dataset of the queries of a mask (q,), with the same arms."""
    place = np.cumsum(queries) - 1
    rows = dataset.rows.take(queries[dataset.rows.query])
    return replace(
        dataset,
        queries=tuple(text for text, kept in zip(dataset.queries, queries, strict=True) if kept),
        rows=replace(rows, query=np.asarray(place[rows.query], np.intp)),
    )


def few(dataset: Dataset, queries: int, seed: int) -> Dataset:
    """Some of the queries at random; fewer are a part of more under the same seed."""
    order = np.random.default_rng(seed).permutation(len(dataset.queries))
    taken = np.zeros(len(order), bool)
    taken[order[:queries]] = True
    return part(dataset, taken)


def _with_arms(dataset: Dataset, keys: set[str]) -> Dataset:
    arms = tuple(arm for arm in dataset.arms if arm.key in keys)
    place = _places([arm.key for arm in dataset.arms], [arm.key for arm in arms])
    rows = dataset.rows.take(place[dataset.rows.arm] >= 0)
    return replace(dataset, arms=arms, rows=replace(rows, arm=place[rows.arm]))


def _places(keys: Sequence[str], among: Sequence[str]) -> Indices:
    index = {key: place for place, key in enumerate(among)}
    return np.array([index.get(key, -1) for key in keys], np.intp)


def _has_every_arm(dataset: Dataset) -> Mask:
    known: Floats = dataset.table("score") + dataset.table("cost_usd")
    return np.asarray(~np.isnan(known).any(axis=1), bool)


def _folded(text: str) -> str:
    """What two texts share that differ in case or white space alone, as in training.log.splits."""
    return " ".join(text.split()).casefold()
