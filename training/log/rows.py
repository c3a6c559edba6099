"""The rows of an outcome log: brought to the contract's columns, or refused with the reason."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from router.errors import InvalidInput
from router.types import Floats, Mask

REQUIRED = ("query_id", "query", "model", "strategy")
_NAMES = ("query_id", "model", "strategy")
_TEXTS = ("dataset", "answer", "tenant", "decision_id", "subject")
_COUNTS = ("input_tokens", "output_tokens", "sample_idx")

SCHEMA = pa.schema(
    [(name, pa.large_string()) for name in (*REQUIRED, "strategy_params")]
    + [(name, pa.float64()) for name in ("score", "cost_usd", "latency_s")]
    + [(name, pa.int64()) for name in ("input_tokens", "output_tokens")]
    + [("confidence", pa.float64())]
    + [("dataset", pa.large_string()), ("sample_idx", pa.int64())]
    + [(name, pa.large_string()) for name in ("answer", "tenant")]
    + [("occurred_at", pa.timestamp("us", tz="UTC")), ("propensity", pa.float64())]
    + [("decision_id", pa.large_string()), ("score_weight", pa.float64())]
    + [("subject", pa.large_string())]
)
"""The contract's columns (design 4.1); only those of REQUIRED are never null.

`score_weight` is how many scores of its kind a row's score stands for, beside propensity.
`subject` is a hash of who asked, by which splits keep people apart.
"""

Numbers = NDArray[np.int64]
Columns = Mapping[str, pa.Array]
_NUL, _REPLACEMENT = "\x00", "\ufffd"
_MOST_COUNT = 2.0**53


@dataclass(slots=True, kw_only=True)
class Checked:
    """Rows that hold to the contract, and why the others do not, by row number from 1."""

    batch: pa.RecordBatch
    refused: dict[int, str] = field(default_factory=dict)


class _Refusals:
    """Collects every reason of every refused row of one batch."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers
        self.reasons: dict[int, str] = {}

    def add(self, bad: Mask, reason: str) -> None:
        for number in self._numbers[bad].tolist():
            before = self.reasons.get(number)
            self.reasons[number] = f"{before}, {reason}" if before else reason

    @property
    def kept(self) -> Mask:
        return ~np.isin(self._numbers, list(self.reasons))


def check(columns: Columns, numbers: Numbers) -> Checked:
    """Brings a batch to SCHEMA and leaves out the rows that break the contract.

    `numbers` (n,) are the rows' numbers. Raises InvalidInput when a column's type cannot
    be read at all.
    """
    refusals = _Refusals(numbers)
    arrays = [_column(item.name, columns, len(numbers), refusals) for item in SCHEMA]
    batch = pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)
    if refusals.reasons:
        batch = batch.filter(pa.array(refusals.kept))
    return Checked(batch=batch, refused=refusals.reasons)


def _column(name: str, columns: Columns, length: int, refusals: _Refusals) -> pa.Array:
    array = columns.get(name)
    if array is None or pa.types.is_null(array.type):
        array = pa.nulls(length, pa.large_string())
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if name == "strategy_params":
        return _params(array, refusals)
    if name == "occurred_at":
        return _times(array, refusals)
    if name in REQUIRED or name in _TEXTS:
        return _required(name, _texts(name, array, refusals), refusals)
    return _figures(name, array, refusals)


def _texts(name: str, array: pa.Array, refusals: _Refusals) -> pa.Array:
    try:
        texts = array.cast(pa.large_string())
    except pa.ArrowInvalid:
        texts = _decoded(name, array, refusals)
    except pa.ArrowNotImplementedError:
        raise _wrong_type(name, array, "text") from None
    return pc.replace_substring(texts, _NUL, _REPLACEMENT)


def _decoded(name: str, array: pa.Array, refusals: _Refusals) -> pa.Array:
    values = [None if value is None else _utf8(value) for value in array.to_pylist()]
    bad = np.array([value is _BAD for value in values])
    refusals.add(bad, f"{name} is not UTF-8")
    return pa.array([None if value is _BAD else value for value in values], pa.large_string())


_BAD: Any = object()


def _utf8(value: bytes) -> Any:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return _BAD


def _required(name: str, texts: pa.Array, refusals: _Refusals) -> pa.Array:
    trimmed = pc.utf8_trim_whitespace(texts)
    missing = _mask(pc.or_kleene(pc.is_null(texts), pc.equal(trimmed, "")))
    if name in _NAMES:
        missing |= _mask(pc.equal(pc.utf8_lower(trimmed), "nan"))
    if name in REQUIRED:
        refusals.add(missing, f"{name} is missing")
        return texts
    return pc.if_else(pa.array(missing), pa.scalar(None, pa.large_string()), texts)


def _mask(condition: pa.Array) -> Mask:
    filled: Mask = pc.fill_null(condition, fill_value=False).to_numpy(zero_copy_only=False)
    return filled


def _figures(name: str, array: pa.Array, refusals: _Refusals) -> pa.Array:
    values = _numbers(name, array, refusals)
    finite = np.isfinite(values)
    refusals.add(np.isinf(values), f"{name} is not finite")
    bad, reason = _rule(name, values)
    refusals.add(bad & finite, reason)
    if name in _COUNTS:
        whole = np.where(finite & ~bad, values, 0).astype(np.int64)
        return pa.array(whole, mask=~finite | bad)
    return pa.array(values, from_pandas=True)


def _rule(name: str, values: Floats) -> tuple[Mask, str]:
    match name:
        case "score":
            return (values < 0) | (values > 1), "score is outside [0, 1]"
        case "propensity":
            return (values <= 0) | (values > 1), "propensity is outside (0, 1]"
        case "cost_usd" | "latency_s" | "score_weight":
            return values < 0, f"{name} is negative"
        case "confidence":
            return np.zeros(len(values), bool), ""
        case _:
            fraction = values != np.floor(values)
            wrong = (values < 0) | (values > _MOST_COUNT) | fraction
            return wrong, f"{name} is not a whole number from 0"


def _numbers(name: str, array: pa.Array, refusals: _Refusals) -> Floats:
    """The values as floats, NaN where missing."""
    if not _is_text(array.type):
        try:
            numbers = array.cast(pa.float64(), safe=False)
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
            raise _wrong_type(name, array, "numbers") from None
        return np.asarray(numbers.to_numpy(zero_copy_only=False), np.float64)
    values = [_number(value) for value in array.to_pylist()]
    refusals.add(np.array([value is _BAD for value in values], bool), f"{name} is not a number")
    return np.array([math.nan if value is _BAD else value for value in values], np.float64)


_FLAGS: Mapping[str | bytes, float] = {"true": 1.0, "false": 0.0, b"true": 1.0, b"false": 0.0}


def _number(value: str | bytes | None) -> Any:
    if value is None or not value.strip():
        return math.nan
    try:
        return float(value)
    except ValueError:
        return _FLAGS.get(value.lower(), _BAD)


def _times(array: pa.Array, refusals: _Refusals) -> pa.Array:
    kind = SCHEMA.field("occurred_at").type
    if not _is_text(array.type):
        if not pa.types.is_temporal(array.type):
            raise _wrong_type("occurred_at", array, "times")
        return array.cast(kind, safe=False)
    return _each(array, _time, kind, "occurred_at is not a time in ISO 8601", refusals)


def _time(value: str | bytes | None) -> Any:
    if value is None or not value.strip():
        return None
    try:
        text = value.decode() if isinstance(value, bytes) else value
        time = datetime.fromisoformat(text.strip())
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return _BAD


def _params(array: pa.Array, refusals: _Refusals) -> pa.Array:
    return _each(
        array, _object, pa.large_string(), "strategy_params is not a JSON object", refusals
    )


def _object(value: Any) -> Any:
    """The object as canonical JSON; a struct's absent fields are left out."""
    if value is None or value in ("", b""):
        return "{}"
    try:
        plain = orjson.loads(value) if isinstance(value, str | bytes) else _struct(value)
    except (ValueError, TypeError):
        return _BAD
    if plain is None:
        return "{}"
    if not isinstance(plain, dict):
        return _BAD
    text = orjson.dumps(plain, option=orjson.OPT_SORT_KEYS).decode()
    return _BAD if "\\u0000" in text else text


def _struct(value: Any) -> dict[str, Any]:
    return {name: item for name, item in dict(value).items() if item is not None}


def _each(
    array: pa.Array, read: Callable[[Any], Any], kind: pa.DataType, reason: str, refusals: _Refusals
) -> pa.Array:
    """Reads each distinct text once."""
    known: dict[Any, Any] = {}
    values = []
    for value in array.to_pylist():
        plain = isinstance(value, str | bytes | None)
        if not plain:
            values.append(read(value))
            continue
        if value not in known:
            known[value] = read(value)
        values.append(known[value])
    refusals.add(np.array([value is _BAD for value in values], bool), reason)
    return pa.array([None if value is _BAD else value for value in values], kind)


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
    )


def _wrong_type(name: str, array: pa.Array, wanted: str) -> InvalidInput:
    return InvalidInput(f"holds {array.type}, not {wanted}; write the column anew", field=name)
