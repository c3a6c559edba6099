"""Outcome logs from outside: Parquet, CSV or JSONL, streamed and checked row by row."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from router.errors import BadRows, InvalidInput
from training.log.rows import REQUIRED, SCHEMA, Checked, Columns, Numbers, check

BATCH_ROWS = 16_384
_CSV_BLOCK_BYTES = 32 << 20

Batches = Iterator[tuple[Columns, Numbers, dict[int, str]]]
"""Columns of some rows, those rows' numbers from 1, and rows that could not even be split."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """An outcome log in the contract's columns, with what was left out of it.

    `refused` holds (row number, why); it is empty unless bad rows were to be skipped.
    `duplicates` counts rows that named an outcome which an earlier row had given.
    """

    table: pa.Table
    total: int
    refused: tuple[tuple[int, str], ...] = ()
    duplicates: int = 0


def validated(path: Path, *, skip_bad_rows: bool = False) -> pa.Table:
    """The checked rows of a file; see `read`."""
    return read(path, skip_bad_rows=skip_bad_rows).table


def read(path: Path, *, skip_bad_rows: bool = False) -> Log:
    """Reads an outcome log by the file's suffix.

    Raises BadRows with every row that breaks the contract, unless they are to be skipped,
    and InvalidInput when the file is no outcome log at all.
    """
    _check_file(path)
    return _collected(_reader(path)(path), skip_bad_rows=skip_bad_rows)


def from_batches(batches: Iterable[pa.RecordBatch], *, skip_bad_rows: bool = False) -> Log:
    """Reads an outcome log that is already in memory, as the store exports it."""
    return _collected(_numbered(batches), skip_bad_rows=skip_bad_rows)


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise InvalidInput(f"{path} is a directory; name a file", field="log")
    if not path.exists():
        raise InvalidInput(f"{path} does not exist", field="log")


def _reader(path: Path) -> Callable[[Path], Batches]:
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        known = ", ".join(_READERS)
        raise InvalidInput(f"{path.name} is of an unknown type; known are {known}", field="log")
    return reader


def _collected(batches: Batches, *, skip_bad_rows: bool) -> Log:
    kept: list[pa.RecordBatch] = []
    refused: dict[int, str] = {}
    total = 0
    for columns, numbers, broken in batches:
        checked = _checked(columns, numbers)
        kept.append(checked.batch)
        refused |= broken | checked.refused
        total += len(numbers) + len(broken)
    if total == 0:
        raise InvalidInput("the outcome log has no rows; send some outcomes first", field="log")
    rows = tuple(sorted(refused.items()))
    if rows and (not skip_bad_rows or len(rows) == total):
        raise BadRows(rows, total=total)
    table = pa.Table.from_batches(kept, SCHEMA)
    unique = _without_duplicates(table)
    return Log(table=unique, total=total, refused=rows, duplicates=len(table) - len(unique))


def _checked(columns: Columns, numbers: Numbers) -> Checked:
    if not len(numbers):
        return Checked(batch=pa.RecordBatch.from_pylist([], schema=SCHEMA))
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise _missing(missing)
    return check(columns, numbers)


def _missing(columns: list[str]) -> InvalidInput:
    return InvalidInput(
        f"columns {columns} are missing; an outcome log has {list(REQUIRED)} and, where they "
        "are known, score, cost_usd, latency_s, tokens and confidence",
        field="log",
    )


_IDENTITY = (*REQUIRED, "strategy_params", "sample_idx", "decision_id")


def _without_duplicates(table: pa.Table) -> pa.Table:
    """The first row of each (query, arm, sample, decision)."""
    codes = np.zeros(len(table), np.int64)
    for name in _IDENTITY:
        column = table[name].dictionary_encode(null_encoding="encode").combine_chunks()
        _, codes = np.unique(
            codes * (len(column.dictionary) + 1) + column.indices.to_numpy(), return_inverse=True
        )
    _, first = np.unique(codes, return_index=True)
    return table if len(first) == len(table) else table.take(np.sort(first))


def _numbered(batches: Iterable[pa.RecordBatch]) -> Batches:
    start = 1
    for batch in batches:
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        yield columns, np.arange(start, start + len(batch)), {}
        start += len(batch)


def _read_parquet(path: Path) -> Batches:
    try:
        with pa.parquet.ParquetFile(path) as file:
            present = [name for name in SCHEMA.names if name in file.schema_arrow.names]
            yield from _numbered(file.iter_batches(BATCH_ROWS, columns=present))
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, "Parquet", error) from None


def _read_csv(path: Path) -> Batches:
    ragged: dict[int, str] = {}

    def refuse(row: Any) -> str:
        found, wanted = row.actual_columns, row.expected_columns
        ragged[row.number - 1] = f"it has {found} values where the header has {wanted}"
        return "skip"

    try:
        utf8 = _is_utf8(path)
        with _open_csv(path, None, refuse, utf8=utf8) as header:
            present = [name for name in SCHEMA.names if name in header.schema.names]
        if not present:
            raise _missing(list(REQUIRED))
        ragged.clear()
        with _open_csv(path, present, refuse, utf8=utf8) as stream:
            yield from _renumbered(stream if utf8 else map(_as_read, stream), ragged)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, "CSV", error) from None


def _is_utf8(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with path.open("rb") as file:
            while part := file.read(1 << 20):
                decoder.decode(part)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _as_read(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The bytes of a file that was passed through Latin-1, which keeps every byte apart."""
    columns = [
        pa.array([value.decode().encode("latin-1") for value in column.to_pylist()], column.type)
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _open_csv(
    path: Path, columns: list[str] | None, refuse: Callable[[Any], str], *, utf8: bool
) -> Any:
    """Arrow hands the handler text, so that a file which is not UTF-8 goes through Latin-1."""
    csv = pa.csv
    file = pa.OSFile(str(path))
    return csv.open_csv(
        file if utf8 else pa.transcoding_input_stream(file, "latin-1", "utf-8"),
        read_options=csv.ReadOptions(use_threads=False, block_size=_CSV_BLOCK_BYTES),
        parse_options=csv.ParseOptions(newlines_in_values=True, invalid_row_handler=refuse),
        convert_options=csv.ConvertOptions(
            include_columns=columns,
            check_utf8=False,
            column_types=dict.fromkeys(columns or (), pa.large_binary()),
        ),
    )


def _renumbered(stream: Iterable[pa.RecordBatch], ragged: dict[int, str]) -> Batches:
    """Numbers the rows that were split, leaving out the numbers of those that were not."""
    told: set[int] = set()
    last = 0
    for batch in stream:
        known = sorted(set(ragged) - told)
        numbers = _free(last + 1, len(batch), known)
        last = int(numbers[-1]) if len(numbers) else last
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        yield columns, numbers, {number: ragged[number] for number in known}
        told.update(known)
    rest = {number: why for number, why in ragged.items() if number not in told}
    yield {}, np.empty(0, np.int64), rest


def _free(start: int, count: int, taken: list[int]) -> Numbers:
    numbers = np.arange(start, start + count + len(taken))
    return numbers[~np.isin(numbers, taken)][:count]


def _read_jsonl(path: Path) -> Batches:
    objects: list[dict[str, Any]] = []
    numbers: list[int] = []
    broken: dict[int, str] = {}
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    _parse_line(line, number, objects, numbers, broken)
                if len(objects) == BATCH_ROWS:
                    yield _columns(objects), np.array(numbers), dict(broken)
                    objects, numbers, broken = [], [], {}
    except OSError as error:
        raise _unreadable(path, "JSONL", error) from None
    if objects or broken:
        yield _columns(objects), np.array(numbers, np.int64), broken


def _parse_line(
    line: bytes,
    number: int,
    objects: list[dict[str, Any]],
    numbers: list[int],
    broken: dict[int, str],
) -> None:
    try:
        value = orjson.loads(line)
    except ValueError:
        broken[number] = "it is not JSON"
        return
    if not isinstance(value, dict):
        broken[number] = "it is not a JSON object"
        return
    objects.append(value)
    numbers.append(number)


def _columns(objects: list[dict[str, Any]]) -> Columns:
    names = {name for item in objects for name in item}
    return {name: _array(name, objects) for name in SCHEMA.names if name in names}


def _array(name: str, objects: list[dict[str, Any]]) -> pa.Array:
    values = [item.get(name) for item in objects]
    if not any(isinstance(value, dict | list) for value in values):
        try:
            return pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            pass
    return pa.array([_as_text(value) for value in values], pa.large_string())


def _as_text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else orjson.dumps(value).decode()


def _unreadable(path: Path, kind: str, error: Exception) -> InvalidInput:
    first = str(error).strip().partition("\n")[0]
    return InvalidInput(f"{path.name} cannot be read as {kind} ({first:.200})", field="log")


_READERS: Mapping[str, Callable[[Path], Batches]] = {
    ".parquet": _read_parquet,
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
}
