"""Attempts as arrays: who scored each, how late, and which scores were due by now."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from router.types import Floats, Mask
from training.log.dataset import Indices, cell_means, microseconds
from training.scores.maturity import ripe_after_s
from training.scores.reliability import EXACT

MOST_SOURCES = 16
OTHERS = "other sources"
"""Sources by names of the callers' own; the rarest are taken as one."""

LEAST_DELAYS = 50
"""With fewer scores of a source under one slo, its delays under all slos count."""


@dataclass(frozen=True, kw_only=True)
class Attempts:
    """n attempts and what k sources said of them.

    `scores` and `delays_s` (n, k) are NaN where a source was silent, `slo` (n,) numbers the
    tenants' slos. `age_s` (n,) is how long ago the decision was made. Of a `failed` attempt
    there is no answer, so no score counts; `imported` ones bring their score along.
    """

    sources: tuple[str, ...]
    scores: Floats
    delays_s: Floats
    slo: Indices
    age_s: Floats
    failed: Mask
    imported: Mask

    @classmethod
    def of(cls, table: pa.Table, now: datetime) -> Self:
        """Reads a table of `router.store.attempts` as it stands at `now`."""
        names, place, row = _said(table["sources"])
        shape = len(table), len(names)
        age_s = now.timestamp() - microseconds(table) / 1e6
        return cls(
            sources=names,
            scores=_matrix(table["scores"], row, place, shape),
            delays_s=_matrix(table["delays_s"], row, place, shape),
            slo=_slos(table),
            age_s=np.maximum(age_s, 0.0),
            failed=_flags(table["failed"]),
            imported=_flags(table["imported"]),
        )

    def take(self, which: Indices) -> Self:
        """The attempts at indices."""
        names = [item.name for item in fields(self) if item.name != "sources"]
        return replace(self, **{name: getattr(self, name)[which] for name in names})

    @property
    def answered(self) -> Mask:
        """Attempts of our own that may have been scored, (n,)."""
        return ~self.failed & ~self.imported

    def ripe_after_s(self) -> Floats:
        """The age (n, k) at which a score of each source is due; infinite where none ever came."""
        found = np.full(self.scores.shape, np.inf)
        ours = self.answered
        for place in range(len(self.sources)):
            delay_s = self.delays_s[:, place]
            came = ours & ~np.isnan(delay_s)
            overall = ripe_after_s(delay_s[ours], self.age_s[ours]) if came.any() else np.inf
            for number in np.unique(self.slo[came]):
                mine = ours & (self.slo == number)
                enough = (came & mine).sum() >= LEAST_DELAYS
                due_s = ripe_after_s(delay_s[mine], self.age_s[mine]) if enough else overall
                found[self.slo == number, place] = due_s
        return found


def _said(column: pa.ChunkedArray) -> tuple[tuple[str, ...], Indices, Indices]:
    """The sources, exact ones first, and for each score that of its source and its row."""
    lists = column.combine_chunks()
    said = pc.list_flatten(lists).to_pylist()
    often = [name for name, _ in sorted(Counter(said).items(), key=lambda item: (-item[1], item))]
    kept = sorted(often[:MOST_SOURCES], key=lambda name: (name not in EXACT, name))
    names = (*kept, *([OTHERS] if len(often) > MOST_SOURCES else []))
    index = {name: number for number, name in enumerate(names)}
    place = np.array([index.get(name, len(names) - 1) for name in said], np.intp)
    return names, place, pc.list_parent_indices(lists).to_numpy().astype(np.intp)


def _matrix(
    column: pa.ChunkedArray, row: Indices, place: Indices, shape: tuple[int, int]
) -> Floats:
    """The mean of what stands at each row and source."""
    values = pc.list_flatten(column.combine_chunks()).to_numpy(zero_copy_only=False)
    return cell_means(values, row, place, shape)


def _slos(table: pa.Table) -> Indices:
    names = (table[name].cast(pa.large_string()).fill_null("") for name in ("tenant", "slo_name"))
    joined = pc.binary_join_element_wise(*names, pa.scalar("\n", pa.large_string()))
    encoded = joined.dictionary_encode().combine_chunks()
    return np.asarray(encoded.indices.to_numpy(), np.intp)


def _flags(column: pa.ChunkedArray) -> Mask:
    return np.asarray(column.to_numpy(), bool)
