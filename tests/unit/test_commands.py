"""What the commands read and write, and how the command fails; no database here."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import typer

from router import cli
from router.commands import lines, options, output, recorded
from router.errors import ConfigurationError, Infeasible, InvalidInput, NotFound
from router.offline import Asked, Replayed
from router.slo import Slo
from router.types import Arm, Evidence, Role

ARM = Arm(model="m", strategy="chain_of_thought", params={"tokens": 256})


def failing(error: BaseException) -> typer.Typer:
    app = typer.Typer()

    @app.command()
    def fail(number: int = 0) -> None:
        raise error if number == 0 else ValueError(number)

    @app.command()
    def other() -> None: ...

    return app


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (NotFound("there is no policy 7"), 1, "there is no policy 7"),
        (typer.BadParameter("no", param_hint="--slo"), 2, "Invalid value for --slo: no"),
        (FileNotFoundError(2, "No such file", "q.jsonl"), 1, "q.jsonl: No such file"),
        (NotFound("two\nlines"), 1, "two lines"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_a_failure_is_one_line_on_stderr_and_an_exit_code(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["fail"], failing(error)) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.partition("; see")[0].rstrip() == f"leadline: {line}"
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["fail", "--number", "x"], ["fail", "--nothing"], ["none"]])
def test_bad_usage_is_exit_code_2_and_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(arguments, failing(NotFound())) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_unexpected_fault_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        cli.run(["fail"], failing(ZeroDivisionError()))


def test_an_slo_option_is_one_or_an_array_or_a_file(tmp_path: Path) -> None:
    path = tmp_path / "slo.json"
    path.write_text('{"min_accuracy": 0.8}')
    one = (Slo(min_accuracy=0.8),)
    assert options.slos('{"min_accuracy": 0.8}') == (one, False)
    assert options.slos('[{"min_accuracy": 0.8}]') == (one, True)
    assert options.slos(f"@{path}") == (one, False)


@pytest.mark.parametrize("text", ["[]", "x", '{"min_acuracy": 1}', '[{"confidence": "high"}]', "3"])
def test_a_bad_slo_option_is_bad_usage(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        options.slos(text)


def test_a_wrong_setting_is_named() -> None:
    with pytest.raises(ConfigurationError, match="LEADLINE_PORT"):
        options.settings(port=70_000)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"{", "line 2 is not JSON"),
        (b"[]", "line 2 is not an object"),
        (b'{"query_id": "a"}', "line 2 is not an object with"),
        (b'{"query_id": 3, "query": "x"}', "line 2 has a query_id"),
        (b'{"query_id": "a", "query": " "}', "line 2 has a query that"),
        (b'{"query_id": "a", "query": "\xff"}', "line 2 is not JSON in UTF-8"),
    ],
)
def test_a_bad_query_line_is_named_by_its_number(line: bytes, why: str) -> None:
    good = b'{"query_id": "a", "query": "x", "more": 1}'
    with pytest.raises(InvalidInput, match=why):
        list(lines.asked([good, line]))


def test_a_replay_line_is_as_the_design_says() -> None:
    shown = Evidence(cost_usd=0.25, latency_s=2.0)
    replayed = Replayed(query_id="q", attempts=((ARM, shown), (ARM, shown)), final=ARM)
    arm = {"model": "m", "strategy": "chain_of_thought", "params": {"tokens": 256}}
    attempt = {"arm": arm, "cost_usd": 0.25, "latency_s": 2.0}
    assert json.loads(lines.replay_line(replayed, None)) == {
        "query_id": "q",
        "attempts": [attempt, attempt],
        "final": arm,
        "cost_usd": 0.5,
        "latency_s": 4.0,
    }
    assert json.loads(lines.replay_line(replayed, 3))["slo_index"] == 3


def test_a_figure_that_is_not_known_makes_no_sum() -> None:
    replayed = Replayed(query_id="q", attempts=((ARM, Evidence(cost_usd=1.0)),), final=ARM)
    line = json.loads(lines.replay_line(replayed, None))
    assert (line["cost_usd"], line["latency_s"]) == (1.0, None)


def test_a_query_without_a_decision_says_why() -> None:
    line = json.loads(lines.decision_line(Asked(query_id="q", text="x"), Infeasible("why"), 0))
    assert line == {
        "query_id": "q",
        "slo_index": 0,
        "arm": None,
        "expected": None,
        "difficulty": None,
        "continuation": False,
        "slo_status": "infeasible",
        "reason": "why",
    }


def test_a_file_takes_its_place_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("before")
    with pytest.raises(TypeError), output.written(path) as file:
        file.writelines([b"half", None])  # type: ignore[list-item]
    assert path.read_text() == "before"
    with output.written(path) as file:
        file.write(b"after")
    assert path.read_text() == "after"
    assert [each.name for each in tmp_path.iterdir()] == ["out.jsonl"]


def test_json_for_machines_knows_the_words() -> None:
    value = {"arm": ARM, "role": Role.ADMIN, "names": frozenset({"b", "a"}), "nan": math.nan}
    params = {"tokens": 256}
    assert json.loads(output.to_json(value)) == {
        "arm": {"model": "m", "strategy": ARM.strategy, "params": params, "key": ARM.key},
        "role": "admin",
        "names": ["a", "b"],
        "nan": None,
    }


ROW = {
    "query_id": "q",
    "query": "x, y",
    "model": "m",
    "strategy": "chain_of_thought",
    "strategy_params": '{"tokens": 256}',
    "confidence": -0.5,
    "cost_usd": 0.25,
    "score": 1.0,
}


def write(path: Path, row: dict[str, Any]) -> Path:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    table = pa.Table.from_pylist([row])
    match path.suffix:
        case ".parquet":
            pa.parquet.write_table(table, path)
        case ".csv":
            pa.csv.write_csv(table, path)
        case _:
            path.write_text(json.dumps(row | {"strategy_params": {"tokens": 256}}) + "\n\n")
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_a_recorded_log_of_any_kind_is_read_alike(tmp_path: Path, suffix: str) -> None:
    [query] = recorded.read(write(tmp_path / f"log{suffix}", ROW))
    assert query.asked == Asked(query_id="q", text="x, y")
    assert list(query.arms) == [ARM.key]
    assert query.attempt(ARM.key) == Evidence(confidence=-0.5, cost_usd=0.25, latency_s=None)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"strategy_params": "{"}, "row 1: strategy_params is not JSON"),
        ({"strategy_params": "[]"}, "row 1: strategy_params is not a JSON object"),
        ({"query_id": ""}, "row 1 of log.parquet has no query_id"),
        ({"model": ""}, "row 1 has no model"),
    ],
)
def test_a_bad_recorded_row_is_named(tmp_path: Path, change: dict[str, str], why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        recorded.read(write(tmp_path / "log.parquet", ROW | change))


def test_a_log_without_a_column_or_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    lacking = {name: value for name, value in ROW.items() if name != "model"}
    with pytest.raises(InvalidInput, match="lacks the columns"):
        recorded.read(write(tmp_path / "log.parquet", lacking))
    with pytest.raises(InvalidInput, match=r"none of \.parquet"):
        recorded.read(tmp_path / "log.xlsx")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(InvalidInput, match="cannot be read"):
        recorded.read(tmp_path / "broken.parquet")
