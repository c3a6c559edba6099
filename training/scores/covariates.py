"""What is known of an answer whether or not anyone scored it, as columns of a like spread.

Callers may report figures only of the answers that were scored. Such a figure would tell
scored answers from others perfectly and teach nothing, so only what is known of nine in ten
of both is a covariate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from scipy.special import logit
from scipy.stats import rankdata

from router.policy.embedding import Embedder
from router.types import Arm, Floats, Mask
from training.learning.contexts import Encoded, Projection
from training.log.dataset import Indices, floats
from training.scores.attempts import Attempts

MOST_READ = 200_000
"""Of more attempts the texts are not embedded; what was predicted of each speaks for them."""

_COMPONENTS = 12
_MOST_VALUES = 24
_KNOWN_SHARE = 0.9


@dataclass(frozen=True, kw_only=True)
class Covariates:
    """Columns (n, c) of n attempts, with the names of the reported figures among them."""

    columns: Floats
    figures: tuple[str, ...]


def covariates(
    table: pa.Table,
    attempts: Attempts,
    *,
    due: Mask,
    scored: Mask,
    embedder: Embedder,
    seed: int,
) -> Covariates:
    """The covariates of a table of attempts; `due` (n, k) are the sources that had their time."""
    figures = {
        name: values
        for name, values in _figures(table).items()
        if _known_of_all(values, scored) and np.ptp(values[~np.isnan(values)]) > 0
    }
    filled = [np.where(np.isnan(each), np.nanmean(each), each) for each in figures.values()]
    columns = [
        *([_queries(table, embedder, seed)] if len(table) <= MOST_READ else []),
        _indicators(arm_keys(table)),
        *(_indicators(table[name].to_pylist()) for name in ("slo_name", "tenant")),
        _labels(table["labels"]),
        rankdata(attempts.age_s)[:, None],
        (np.asarray(table["attempt"].to_numpy()) > 0).astype(np.float64)[:, None],
        due.astype(np.float64),
        *(each[:, None] for each in filled),
    ]
    return Covariates(columns=_standard(np.hstack(columns)), figures=tuple(figures))


def _known_of_all(values: Floats, scored: Mask) -> bool:
    known = ~np.isnan(values)
    sides = [known[side] for side in (scored, ~scored) if side.any()]
    return all(side.mean() >= _KNOWN_SHARE for side in sides)


def _figures(table: pa.Table) -> dict[str, Floats]:
    accuracy = np.clip(floats(table, "predicted_accuracy"), 1e-3, 1.0 - 1e-3)
    return {
        "predicted_accuracy": np.asarray(logit(accuracy)),
        "novelty": floats(table, "novelty"),
        "confidence": _ranked(floats(table, "confidence"), arm_keys(table)),
        "output_tokens": np.log1p(floats(table, "output_tokens")),
        "latency_s": np.log1p(floats(table, "latency_s")),
    }


def _ranked(values: Floats, arms: Sequence[str]) -> Floats:
    """The place (n,) of each value among those of its arm, from -1/2 to 1/2."""
    found, names = np.full(len(values), np.nan), np.array(arms, object)
    for name in dict.fromkeys(arms):
        mine = (names == name) & ~np.isnan(values)
        if mine.any():
            found[mine] = (rankdata(values[mine]) - 0.5) / mine.sum() - 0.5
    return found


def arm_keys(table: pa.Table) -> list[str]:
    """The key of each row's arm."""
    names = ("model", "strategy", "strategy_params")
    known: dict[tuple[str, ...], str] = {}
    parts = zip(*(table[name].fill_null("").to_pylist() for name in names), strict=True)
    return [known.get(each) or known.setdefault(each, _key(*each)) for each in parts]


def _key(model: str, strategy: str, params: str) -> str:
    return Arm(model=model, strategy=strategy, params=orjson.loads(params or "{}")).key


def _queries(table: pa.Table, embedder: Embedder, seed: int) -> Floats:
    encoded = table["query"].fill_null("").dictionary_encode().combine_chunks()
    queries = Encoded.of(encoded.dictionary.to_pylist(), embedder)
    every = np.arange(len(queries.texts))
    contexts = Projection(components=_COMPONENTS, seed=seed).fit(queries, every).transform(queries)
    return np.asarray(contexts.values[encoded.indices.to_numpy()])


def _labels(column: pa.ChunkedArray) -> Floats:
    """Indicators (n, v) of the commonest labels."""
    each = [_pairs(text) for text in column.to_pylist()]
    common = _commonest([pair for pairs in each for pair in pairs])
    held = [[pair in pairs for pair in common] for pairs in each]
    return np.array(held, np.float64).reshape(len(each), len(common))


def _pairs(text: str | None) -> frozenset[tuple[str, str]]:
    return frozenset(orjson.loads(text).items()) if text else frozenset()


def _indicators(values: Sequence[str | None]) -> Floats:
    """Indicators (n, v) of the commonest values."""
    places = {value: place for place, value in enumerate(_commonest(values))}
    row: Indices = np.array([places.get(value, -1) for value in values], np.intp)
    return np.asarray((row[:, None] == np.arange(len(places))).astype(np.float64))


def _commonest(values: Sequence[Any]) -> list[Any]:
    often = sorted(Counter(values).items(), key=lambda item: (-item[1], str(item[0])))
    return [value for value, _ in often[:_MOST_VALUES]]


def _standard(columns: Floats) -> Floats:
    """Columns with mean 0 and spread 1; those that never vary are left out."""
    spread = columns.std(axis=0)
    varying = spread > 1e-9
    return np.asarray((columns[:, varying] - columns[:, varying].mean(axis=0)) / spread[varying])
