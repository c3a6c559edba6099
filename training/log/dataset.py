"""The dataset: an outcome log as arrays, in an order that does not depend on that of its rows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from datetime import datetime
from functools import cached_property
from typing import Any, Self

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from router.types import Arm, Floats, Mask

Indices = NDArray[np.intp]
MOST_WEIGHT = 20.0
"""No row counts more than so many times the least, however improbable its arm was."""

_LEAST_WEIGHT = 1e-3
_FIGURES = (
    "score",
    "cost_usd",
    "latency_s",
    "input_tokens",
    "output_tokens",
    "confidence",
    "propensity",
)


@dataclass(frozen=True, kw_only=True)
class Rows:
    """n outcomes; every array has shape (n,), and figures are NaN where they are missing.

    `query` and `arm` are indices into the dataset's. `weight` is 1 / propensity, bounded
    and scaled to a mean of 1, where the log has propensities, and 1 where it has not; times
    `score_weight`, which has a mean of 1 over the scored rows and is 1 where the log has none.
    """

    query: Indices
    arm: Indices
    score: Floats
    cost_usd: Floats
    latency_s: Floats
    input_tokens: Floats
    output_tokens: Floats
    confidence: Floats
    propensity: Floats
    weight: Floats
    score_weight: Floats

    def __len__(self) -> int:
        return len(self.query)

    def take(self, which: Mask | Indices) -> Rows:
        """The rows of a mask or at indices."""
        return Rows(**{item.name: getattr(self, item.name)[which] for item in fields(self)})

    @property
    def even(self) -> bool:
        """Whether no row counts more than another."""
        return bool((self.weight == self.weight[:1]).all())

    def unweighted(self) -> Rows:
        """The rows as if every arm had been as probable as any other, and every score too."""
        ones = np.ones(len(self))
        return replace(self, weight=ones, score_weight=ones)

    def spent(self) -> Rows:
        """The rows as what they cost and took counts, which does not hang on scores."""
        ones = np.ones(len(self))
        return replace(self, weight=self.weight / self.score_weight, score_weight=ones)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What training reads: q unique query texts, a arms sorted by key, and n outcomes.

    `watermark` is the newest time in the log, None where it has none. `typical` (q,) are the
    queries that stand for all where the log was thinned (`training.log.thinning`).
    """

    queries: tuple[str, ...]
    arms: tuple[Arm, ...]
    rows: Rows
    watermark: datetime | None = None
    typical: Mask | None = None

    @classmethod
    def from_table(cls, table: pa.Table) -> Self:
        """Reads the checked table of a log (`training.log.sources`)."""
        queries, query = _encoded(table["query"])
        arms, arm = arms_of(table)
        figures = {name: _figures(table, name) for name in _FIGURES}
        score_weight = _score_weights(table, figures["score"])
        order = np.lexsort((score_weight, *figures.values(), arm, query))
        rows = Rows(
            query=query[order],
            arm=arm[order],
            weight=propensity_weights(figures["propensity"][order]) * score_weight[order],
            score_weight=score_weight[order],
            **{name: values[order] for name, values in figures.items()},
        )
        return cls(
            queries=queries,
            arms=arms,
            rows=rows,
            watermark=pc.max(table["occurred_at"]).as_py(),
            typical=_typical(table, query, len(queries)),
        )

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 that names exactly these outcomes, whatever the order of the log."""
        arms = [arm.key for arm in self.arms]
        hashed = hashlib.sha256(orjson.dumps([self.queries, arms]))
        rows = self.rows
        told = [item.name for item in fields(rows) if item.name != "score_weight"]
        for name in told if (rows.score_weight == 1.0).all() else [*told, "score_weight"]:
            hashed.update(np.ascontiguousarray(getattr(rows, name)).tobytes())
        return hashed.hexdigest()

    def unweighted(self) -> Dataset:
        """The dataset as if every arm, and every score, had been as probable as any other."""
        return replace(self, rows=self.rows.unweighted())

    @cached_property
    def scored(self) -> Mask:
        """Rows whose score is known, shape (n,)."""
        return ~np.isnan(self.rows.score)

    def table(self, name: str) -> Floats:
        """A figure's mean per (query, arm), shape (q, a), NaN where never seen."""
        values = getattr(self.rows, name)
        known = ~np.isnan(values)
        shape = (len(self.queries), len(self.arms))
        return cell_means(values[known], self.rows.query[known], self.rows.arm[known], shape)


def cell_means(values: Floats, row: Indices, column: Indices, shape: tuple[int, int]) -> Floats:
    """The mean of the values (n,) at each row and column of a table, NaN where there is none."""
    cell = np.ravel_multi_index((row, column), shape)
    count = np.bincount(cell, minlength=shape[0] * shape[1])
    total = np.bincount(cell, weights=values, minlength=shape[0] * shape[1])
    means = np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
    return np.asarray(means.reshape(shape))


def floats(table: pa.Table, name: str) -> Floats:
    """A column of numbers (n,), NaN where there is none; a copy."""
    column = table[name].cast(pa.float64()).combine_chunks()
    return np.array(column.to_numpy(zero_copy_only=False), np.float64)


def microseconds(table: pa.Table) -> Indices:
    """When each row occurred, (n,), since the epoch; 0 where that is not known."""
    told = table["occurred_at"].cast(pa.int64()).combine_chunks().fill_null(0)
    return np.asarray(told.to_numpy(), np.int64)


def _encoded(column: pa.ChunkedArray) -> tuple[tuple[str, ...], Indices]:
    """The sorted unique texts, and each row's place among them."""
    encoded = column.dictionary_encode().combine_chunks()
    texts = encoded.dictionary.to_pylist()
    order = sorted(range(len(texts)), key=texts.__getitem__)
    places = np.empty(len(texts), np.intp)
    places[order] = np.arange(len(texts))
    return tuple(texts[index] for index in order), places[encoded.indices.to_numpy()]


def arms_of(table: pa.Table) -> tuple[tuple[Arm, ...], Indices]:
    """The arms by key, and the place of each row's among them, (n,)."""
    columns = (table["model"], table["strategy"], table["strategy_params"])
    keys = pc.binary_join_element_wise(*columns, pa.scalar("\x00", pa.large_string()))
    encoded = keys.dictionary_encode().combine_chunks()
    arms = [_arm(*key.split("\x00")) for key in encoded.dictionary.to_pylist()]
    unique = tuple(sorted(set(arms), key=lambda arm: arm.key))
    index = {arm: place for place, arm in enumerate(unique)}
    places = np.array([index[arm] for arm in arms], np.intp)
    return unique, places[encoded.indices.to_numpy()]


def _arm(model: str, strategy: str, params: str) -> Arm:
    plain: dict[str, Any] = orjson.loads(params)
    return Arm(model=model, strategy=strategy, params=plain)


def _typical(table: pa.Table, query: Indices, count: int) -> Mask | None:
    if "typical" not in table.schema.names:
        return None
    found = np.zeros(count, bool)
    found[query[np.asarray(table["typical"])]] = True
    return found


def _figures(table: pa.Table, name: str) -> Floats:
    values = floats(table, name)
    values[np.isnan(values)] = np.nan
    return values + 0.0


def _score_weights(table: pa.Table, score: Floats) -> Floats:
    """The log's score weights (n,), bounded, with a mean of 1 over the scored rows."""
    weights, found = _figures(table, "score_weight"), np.ones(len(score))
    known = ~np.isnan(score) & ~np.isnan(weights)
    if weights[known].any():
        found[known] = np.maximum(weights[known] / weights[known].mean(), _LEAST_WEIGHT)
    return found


def propensity_weights(propensity: Floats) -> Floats:
    """1 / propensity (n,), bounded and scaled to a mean of 1; 1 where there is none."""
    known = ~np.isnan(propensity)
    if not known.any():
        return np.ones(len(propensity))
    weights = np.where(known, 1.0 / np.where(known, propensity, 1.0), 1.0)
    weights = np.minimum(weights, MOST_WEIGHT * weights.min())
    return np.asarray(weights / weights.mean())
