"""Reading outcome logs: what is kept, what is refused, and by which number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import BadRows, InvalidInput
from tests.kit import logs
from training.log import sources
from training.log.rows import SCHEMA

SUFFIXES = (".parquet", ".csv", ".jsonl")
GOOD = logs.row("q", "a query", 0, score=0.5)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_reads_to_the_same_table(tmp_path: Path, suffix: str) -> None:
    rows = logs.simulated(40).rows
    rows[3]["query"] = 'two\nlines, a "quote" and ünïcode'
    expected = sources.from_batches([pa.RecordBatch.from_pylist(rows)]).table
    found = sources.validated(logs.write(tmp_path / f"log{suffix}", rows))
    assert found.schema == SCHEMA
    assert found.equals(expected)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"query_id": None}, "query_id is missing"),
    ({"query_id": ""}, "query_id is missing"),
    ({"query_id": "NaN"}, "query_id is missing"),
    ({"query": "  "}, "query is missing"),
    ({"model": None}, "model is missing"),
    ({"strategy": ""}, "strategy is missing"),
    ({"score": 1.01}, r"score is outside \[0, 1\]"),
    ({"score": -0.5}, r"score is outside \[0, 1\]"),
    ({"cost_usd": -1e-9}, "cost_usd is negative"),
    ({"cost_usd": 1e999}, "cost_usd is not finite"),
    ({"latency_s": -1.0}, "latency_s is negative"),
    ({"input_tokens": -1}, "input_tokens is not a whole number"),
    ({"output_tokens": 1.5}, "output_tokens is not a whole number"),
    ({"propensity": 0.0}, r"propensity is outside \(0, 1\]"),
    ({"propensity": 1.5}, r"propensity is outside \(0, 1\]"),
    ({"strategy_params": '{"a":'}, "strategy_params is not a JSON object"),
    ({"strategy_params": "[1]"}, "strategy_params is not a JSON object"),
    ({"occurred_at": "yesterday"}, "occurred_at is not a time"),
]


@pytest.mark.parametrize(("change", "why"), BAD)
@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_bad_row_is_refused_by_its_number(
    tmp_path: Path, suffix: str, change: dict[str, Any], why: str
) -> None:
    rows = [GOOD, {**GOOD, "query_id": "r", **change}, {**GOOD, "query_id": "s"}]
    path = logs.write(tmp_path / f"log{suffix}", rows)
    with pytest.raises(BadRows, match=f"1 of 3 rows are refused: row 2: .*{why}") as refused:
        sources.read(path)
    assert [number for number, _ in refused.value.rows] == [2]
    log = sources.read(path, skip_bad_rows=True)
    assert (len(log.table), log.total, len(log.refused)) == (2, 3, 1)


def test_all_bad_rows_are_named_in_one_pass(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    good = '{"query_id": 1, "query": "q", "model": "m", "strategy": "s"}'
    path.write_text(f'{good}\nnot json\n[1]\n{good[:-1]}, "score": "high"}}\n{{"query": "q"}}\n')
    with pytest.raises(BadRows) as refused:
        sources.read(path)
    assert [number for number, _ in refused.value.rows] == [2, 3, 4, 5]


def test_rows_that_csv_cannot_split_keep_the_others_numbers(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(
        "query_id,query,model,strategy,score\n1,q,m,s,0\n2,q,m\n3,q,m,s,7\n4,q,m,s,1,extra\n5,q,m,s,1\n"
    )
    log = sources.read(path, skip_bad_rows=True)
    assert [number for number, _ in log.refused] == [2, 3, 4]
    assert log.table["query_id"].to_pylist() == ["1", "5"]


def test_missing_values_are_null_and_nul_characters_are_replaced(tmp_path: Path) -> None:
    row = {
        **GOOD,
        "query": "a\x00b",
        "score": float("nan"),
        "cost_usd": None,
        "strategy_params": None,
    }
    table = sources.validated(logs.write(tmp_path / "log.parquet", [GOOD, row]))
    assert table["query"].to_pylist()[1] == "a\ufffdb"
    assert table["score"].to_pylist() == [0.5, None]
    assert table["strategy_params"].to_pylist() == ["{}", "{}"]


def test_bytes_that_are_not_utf8_are_refused_by_number(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(b"query_id,query,model,strategy\n1,\xff\xfe,m,s\n2,ok,m,s\n")
    with pytest.raises(BadRows, match="row 1: query is not UTF-8"):
        sources.read(path)


def test_a_repeated_outcome_counts_once(tmp_path: Path) -> None:
    rows = [GOOD, GOOD, {**GOOD, "sample_idx": 1}, {**GOOD, "decision_id": "d"}]
    log = sources.read(logs.write(tmp_path / "log.parquet", rows))
    assert (len(log.table), log.duplicates) == (3, 1)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("log.csv", b"", "cannot be read as CSV"),
        ("log.parquet", b"", "cannot be read as Parquet"),
        ("log.parquet", b"PAR1 no", "cannot be read as Parquet"),
        ("log.jsonl", b"", "has no rows"),
        ("log.csv", b"query_id,query,model,strategy\n", "has no rows"),
        ("log.csv", b"query_id,model\n1,m\n", r"columns \['query', 'strategy'\] are missing"),
        ("log.jsonl", b'{"query": "q"}\n', "are missing"),
        ("log.xlsx", b"x", "unknown type; known are .parquet, .csv, .jsonl"),
    ],
)
def test_a_file_that_is_no_log_is_refused_with_what_to_do(
    tmp_path: Path, name: str, content: bytes, why: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInput, match=why):
        sources.read(tmp_path / name)


def test_a_path_that_is_not_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="does not exist"):
        sources.read(tmp_path / "log.csv")
    with pytest.raises(InvalidInput, match="is a directory"):
        sources.read(tmp_path)


def test_a_column_of_the_wrong_type_is_refused_by_name(tmp_path: Path) -> None:
    pa.parquet.write_table(pa.table({**_columns(), "score": [[0.5]]}), tmp_path / "log.parquet")
    with pytest.raises(InvalidInput, match="score: holds list"):
        sources.read(tmp_path / "log.parquet")


def test_other_types_of_columns_are_read(tmp_path: Path) -> None:
    table = pa.table(
        {
            **_columns(),
            "model": pa.array(["m"]).dictionary_encode(),
            "strategy_params": [{"samples": 3, "base": None}],
            "score": [True],
            "cost_usd": ["0.25"],
        }
    )
    pa.parquet.write_table(table, tmp_path / "log.parquet")
    row = sources.validated(tmp_path / "log.parquet").to_pylist()[0]
    assert (row["query_id"], row["model"], row["score"], row["cost_usd"]) == ("7", "m", 1.0, 0.25)
    assert row["strategy_params"] == '{"samples":3}'


def _columns() -> dict[str, Any]:
    return {"query_id": [7], "query": ["q"], "model": ["m"], "strategy": ["s"]}


@given(st.binary(max_size=200), st.sampled_from(SUFFIXES))
def test_no_file_whatsoever_gives_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str
) -> None:
    path = tmp_path_factory.mktemp("any") / f"log{suffix}"
    path.write_bytes(content)
    with pytest.raises(InvalidInput):
        sources.read(path)
