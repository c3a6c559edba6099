"""Outcome logs as `replay` may see them: without their scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from router.errors import InvalidInput
from router.offline import Asked
from router.types import Arm, Evidence, Floats

TEXTS = ("query_id", "query", "model", "strategy", "strategy_params")
FIGURES = ("confidence", "cost_usd", "latency_s")
REQUIRED = TEXTS[:4]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedQuery:
    """A query and the numbers of its rows by arm; figures are read when an arm is attempted."""

    asked: Asked
    figures: Mapping[str, Floats]
    rows: dict[str, int] = field(default_factory=dict)

    @property
    def arms(self) -> Collection[str]:
        """Keys of the arms that have a row."""
        return self.rows.keys()

    def attempt(self, arm: str) -> Evidence:
        """What the arm's row shows."""
        row = self.rows[arm]
        return Evidence(
            confidence=_known(self.figures["confidence"][row]),
            cost_usd=_known(self.figures["cost_usd"][row]),
            latency_s=_known(self.figures["latency_s"][row]),
        )


def read(path: Path) -> list[RecordedQuery]:
    """The queries of a log in the order in which they first stand there.

    Of several rows for one query and arm the first counts. Raises InvalidInput that names
    the row, or the column, that is wrong.
    """
    table = _table(path)
    texts = {name: table[name].to_pylist() for name in TEXTS}
    figures = {name: _floats(table[name]) for name in FIGURES}
    keys = _Keys()
    queries: dict[str, RecordedQuery] = {}
    for row, (query_id, text, *arm) in enumerate(zip(*texts.values(), strict=True)):
        if not query_id or text is None:
            raise InvalidInput(f"row {row + 1} of {path.name} has no query_id or no query")
        query = queries.get(query_id)
        if query is None:
            query = RecordedQuery(asked=Asked(query_id=query_id, text=text), figures=figures)
            queries[query_id] = query
        query.rows.setdefault(keys.of(row, *arm), row)
    return list(queries.values())


class _Keys:
    """Keys of arms, each worked out once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, str | None], str] = {}

    def of(self, row: int, model: str, strategy: str, params: str | None) -> str:
        """The key of the arm in a row."""
        named = (model, strategy, params)
        if named not in self._known:
            self._known[named] = _arm(row, model, strategy, params).key
        return self._known[named]


def _arm(row: int, model: str, strategy: str, params: str | None) -> Arm:
    if not model or not strategy:
        raise InvalidInput(f"row {row + 1} has no model or no strategy")
    try:
        value = orjson.loads(params or "{}")
    except ValueError:
        raise InvalidInput(f"row {row + 1}: strategy_params is not JSON") from None
    if not isinstance(value, dict):
        raise InvalidInput(f"row {row + 1}: strategy_params is not a JSON object")
    return Arm(model=model, strategy=strategy, params=value)


def _table(path: Path) -> pa.Table:
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InvalidInput(f"{path.name} is none of {', '.join(_READERS)}", field="log")
    try:
        table = reader(path)
    except pa.ArrowException as error:
        reason = str(error).partition("\n")[0]
        raise InvalidInput(f"{path.name} cannot be read ({reason:.200})", field="log") from None
    missing = [name for name in REQUIRED if name not in table.column_names]
    if missing:
        raise InvalidInput(f"{path.name} lacks the columns {missing}", field="log")
    for name in (*TEXTS, *FIGURES):
        kind = pa.large_string() if name in TEXTS else pa.float64()
        column = table[name].cast(kind) if name in table.column_names else _nulls(table, kind)
        place = table.schema.get_field_index(name)
        table = (
            table.append_column(name, column)
            if place < 0
            else table.set_column(place, name, column)
        )
    return table


def _nulls(table: pa.Table, kind: pa.DataType) -> pa.Array:
    return pa.nulls(len(table), kind)


def _parquet(path: Path) -> pa.Table:
    present = pa.parquet.read_schema(path).names
    return pa.parquet.read_table(path, columns=[n for n in (*TEXTS, *FIGURES) if n in present])


def _csv(path: Path) -> pa.Table:
    types = dict.fromkeys(TEXTS, pa.large_string()) | dict.fromkeys(FIGURES, pa.float64())
    table = pa.csv.read_csv(
        path,
        parse_options=pa.csv.ParseOptions(newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(column_types=types),
    )
    return table.select([name for name in types if name in table.column_names])


def _jsonl(path: Path) -> pa.Table:
    columns: dict[str, list[Any]] = {name: [] for name in (*TEXTS, *FIGURES)}
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                value = orjson.loads(line) if line.strip() else None
            except ValueError:
                raise InvalidInput(f"line {number} of {path.name} is not JSON") from None
            if value is not None:
                _add(columns, value)
    return pa.table(columns)


def _add(columns: dict[str, list[Any]], value: Mapping[str, Any]) -> None:
    for name, values in columns.items():
        item = value.get(name)
        values.append(orjson.dumps(item).decode() if isinstance(item, dict) else item)


_READERS: Mapping[str, Callable[[Path], pa.Table]] = {
    ".parquet": _parquet,
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
}


def _floats(column: pa.ChunkedArray) -> Floats:
    return np.asarray(column.to_numpy(zero_copy_only=False), np.float64)


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
