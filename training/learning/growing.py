"""Where trees are grown: in this process, or by whoever a block of code hands them to.

A run hands them to a Dask cluster with one setting (`training.learning.distributed`); what is
fitted stays the same LightGBM text model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import lightgbm

from router.types import Floats


@dataclass(frozen=True, kw_only=True)
class Forest:
    """Trees that are wanted: columns (n, c) with labels, weights and starts, all (n,)."""

    columns: Floats
    label: Floats
    weight: Floats
    start: Floats
    names: Sequence[str]
    categorical: Sequence[str]
    parameters: Mapping[str, Any]
    trees: int


Grow = Callable[[Forest], lightgbm.Booster]


def grown_here(forest: Forest) -> lightgbm.Booster:
    """Grows the trees in this process; the same forest gives the same bytes."""
    parameters = dict(forest.parameters)
    data = lightgbm.Dataset(
        forest.columns,
        label=forest.label,
        weight=forest.weight,
        init_score=forest.start,
        feature_name=list(forest.names),
        categorical_feature=list(forest.categorical),
        params=parameters,
    )
    return lightgbm.train(parameters, data, num_boost_round=forest.trees)


_GROW: ContextVar[Grow] = ContextVar("grow", default=grown_here)


def grown(forest: Forest) -> lightgbm.Booster:
    """Grows the trees where the block of code around this says, else here."""
    return _GROW.get()(forest)


@contextmanager
def growing(grow: Grow) -> Iterator[None]:
    """Has all trees of a block grown so."""
    token = _GROW.set(grow)
    try:
        yield
    finally:
        _GROW.reset(token)
