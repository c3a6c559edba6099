"""Arms that differ in compute alone, and the resampled means of groups of arms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from router.policy.arms import SPENDING, chains, compute
from router.types import Arm, Floats, Mask, Strategy

LEAST_QUERIES = 100
_CHUNK_QUERIES = 4_096


@dataclass(frozen=True, kw_only=True)
class Table:
    """Means of q queries for a arms: every array is (q, a), NaN where there is no outcome.

    `weight` is 1 / propensity, bounded; it counts where queries lack some of the arms.
    """

    arms: tuple[Arm, ...]
    score: Floats
    cost_usd: Floats
    weight: Floats | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """Places of arms of one model and strategy, weakest first; `compute` (l,) rises.

    The first may be the arm that the strategy starts from, as one sample of what
    self-consistency samples; `params` are those that its arms share.
    """

    model: str
    strategy: str
    params: str
    places: tuple[int, ...]
    compute: tuple[float, ...]

    def __str__(self) -> str:
        return " ".join(each for each in (self.model, self.strategy, self.params) if each)


def ladders(arms: Sequence[Arm]) -> list[Ladder]:
    """A ladder per model, strategy and shared parameters, with the arm it starts from."""
    rows = [tuple(dict.fromkeys(row)) for row in chains(arms).tolist()]
    known = {place for row in rows for place in row}
    rows += [
        (place,)
        for place, arm in enumerate(arms)
        if place not in known and arm.strategy != Strategy.SINGLE
    ]
    made = [_ladder(arms, row) for row in rows]
    kept = [each for each in made if len(each.places) > 1]
    return sorted(kept, key=lambda each: (each.model, each.strategy, each.params))


def _ladder(arms: Sequence[Arm], row: tuple[int, ...]) -> Ladder:
    first = arms[row[0]]
    shared = {name: value for name, value in first.params.items() if name not in SPENDING}
    start = _start(arms, first, shared)
    weaker = start is not None and start not in row and compute(arms[start]) < compute(first)
    places = (start, *row) if weaker and start is not None else row
    different = {compute(arms[place]): place for place in reversed(places)}
    spent = tuple(sorted(different))
    return Ladder(
        model=first.model,
        strategy=first.strategy,
        params=" ".join(f"{name}={shared[name]}" for name in sorted(shared)),
        places=tuple(different[each] for each in spent),
        compute=spent,
    )


def _start(arms: Sequence[Arm], first: Arm, shared: dict[str, object]) -> int | None:
    """The arm of the same model that one unit of the strategy is; single pass where unnamed."""
    base = shared.get("base", Strategy.SINGLE)
    rest = {name: value for name, value in shared.items() if name != "base"}
    wanted = rest if base != Strategy.SINGLE else {}
    for place, arm in enumerate(arms):
        if arm.model == first.model and arm.strategy == base and dict(arm.params) == wanted:
            return place
    return None


@dataclass(frozen=True, kw_only=True)
class Means:
    """Means of l arms over the sample itself, in place 0, and resamples of it: (1 + b, l).

    `queries` were counted; `paired` says whether each of them has all of the arms.
    """

    score: Floats
    cost_usd: Floats
    queries: int
    paired: bool


def resampled(
    table: Table, groups: Sequence[Sequence[int]], count: int, rng: np.random.Generator
) -> list[Means]:
    """The means of each group of places over the same `count` resamples of queries.

    A Poisson bootstrap (Chamandy and others 2012), for it needs few queries in memory. A
    group counts the queries that have all of its arms, where there are enough of those.
    """
    known = ~np.isnan(table.score)
    masks = [_mask(known, group) for group in groups]
    total = np.zeros((count + 1, 4 * sum(map(len, groups))))
    for chunk in _chunks(len(known)):
        drawn = rng.poisson(1.0, (count, chunk.stop - chunk.start))
        drawn = np.vstack((np.ones(chunk.stop - chunk.start), drawn))
        total += drawn @ _columns(table, groups, masks, chunk)
    return list(_means(total, groups, masks))


def _chunks(queries: int) -> Iterator[slice]:
    for start in range(0, queries, _CHUNK_QUERIES):
        yield slice(start, min(start + _CHUNK_QUERIES, queries))


@dataclass(frozen=True, kw_only=True)
class _Mask:
    paired: bool
    queries: int
    kept: Mask


def _mask(known: Mask, group: Sequence[int]) -> _Mask:
    own = known[:, list(group)]
    every = np.asarray(own.all(axis=1))
    paired = int(every.sum()) >= LEAST_QUERIES
    kept = every if paired else np.asarray(own.any(axis=1))
    return _Mask(paired=paired, queries=int(kept.sum()), kept=kept)


def _columns(
    table: Table, groups: Sequence[Sequence[int]], masks: Sequence[_Mask], chunk: slice
) -> Floats:
    """Per group and place: weights of scores, weighted scores, and the same of costs."""
    made = []
    for group, mask in zip(groups, masks, strict=True):
        places, kept = list(group), mask.kept[chunk, None]
        weight = np.ones((chunk.stop - chunk.start, len(places)))
        if not mask.paired and table.weight is not None:
            weight = np.nan_to_num(table.weight[chunk][:, places])
        for values in (table.score[chunk][:, places], table.cost_usd[chunk][:, places]):
            counted = weight * (kept & ~np.isnan(values))
            made += [counted, counted * np.nan_to_num(values)]
    return np.hstack(made)


def _means(
    total: Floats, groups: Sequence[Sequence[int]], masks: Sequence[_Mask]
) -> Iterator[Means]:
    start = 0
    for group, mask in zip(groups, masks, strict=True):
        size = len(group)
        parts = [total[:, start + size * part : start + size * (part + 1)] for part in range(4)]
        start += 4 * size
        score, cost = (
            np.divide(
                parts[at + 1], parts[at], out=np.full(parts[at].shape, np.nan), where=parts[at] > 0
            )
            for at in (0, 2)
        )
        yield Means(score=score, cost_usd=cost, queries=mask.queries, paired=mask.paired)
