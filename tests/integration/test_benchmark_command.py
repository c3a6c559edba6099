"""leadline benchmark from the command line to its files."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from router.errors import InvalidInput
from tests.kit import commands, logs
from training.benchmark.bench import WAYS

ROWS = logs.simulated(300).rows

run = partial(commands.run, "benchmark")
answer = partial(commands.answer, "benchmark")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEADLINE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


def by_name(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {way["name"]: way for way in found["ways"]}


def test_two_logs_become_figures_tables_and_a_report_that_needs_nothing_else(
    tmp_path: Path,
) -> None:
    train = logs.write(tmp_path / "train.csv", ROWS[:600])
    test = logs.write(tmp_path / "test.parquet", ROWS[600:])
    result = run("--train", train, "--test", test, "--out", tmp_path / "out", "--bootstrap", "200")
    assert result.exit_code == 0, result.output
    for said in ("gap closed", "Leadline, continuation", "verdict", "APGR", "report.html"):
        assert said in result.output

    found = json.loads((tmp_path / "out" / "benchmark.json").read_bytes())
    ways = by_name(found)
    assert tuple(ways) == WAYS
    assert found["setup"]["train_queries"] == 200
    assert found["setup"]["test_queries"] == 100
    assert ways["oracle"]["gap_closed"]["estimate"] == 1.0
    assert ways["best_constant"]["gap_closed"]["estimate"] == pytest.approx(0.0, abs=1e-9)
    assert len(ways["leadline"]["budgets"]) == len(ways["leadline"]["points"]) == 60
    assert ways["knn"]["prediction"]["rows"] == 300
    assert {each["arm"] for each in found["latency_coverage"]} == {
        each["arm"] for each in found["constants"]
    }

    html = (tmp_path / "out" / "report.html").read_text()
    assert html.count("<svg") == 6
    assert not re.search(r'(?:src|href)="(?!#)', html)
    assert not re.search(r"<script|@import|url\((?!#)", html)
    assert "Case " not in html


def test_one_log_is_split_and_learnt_from_less(tmp_path: Path) -> None:
    log = logs.write(tmp_path / "log.jsonl", ROWS)
    out = ("--log", log, "--out", tmp_path / "out", "--bootstrap", "100", "--ways", "knn,leadline")
    found = answer(*out, "--learning-curve")
    assert list(by_name(found)) == ["best_constant", "mixture", "knn", "leadline", "oracle"]
    curve = {(each["way"], each["queries"]) for each in found["learning_curve"]}
    trained = found["setup"]["train_queries"]
    assert curve == {(way, size) for way in ("knn", "leadline") for size in (100, 200, trained)}
    assert "Learning curve" in (tmp_path / "out" / "report.html").read_text()


def test_each_part_is_left_out_in_turn(tmp_path: Path) -> None:
    log = logs.write(tmp_path / "log.jsonl", ROWS[:180])
    told = ("--log", log, "--out", tmp_path / "out", "--bootstrap", "100", "--ways", "leadline")
    parts = {each["without"] for each in answer(*told, "--ablation")["ablation"]}
    assert parts >= {"trees", "words signal", "arm descriptors"}
    assert "propensity weights" not in parts


def test_folds_judge_on_every_query_and_the_same_twice(tmp_path: Path) -> None:
    log = logs.write(tmp_path / "log.parquet", ROWS[:360])
    told = ("--log", log, "--folds", "2", "--bootstrap", "100")
    ways = ("--ways", "leadline,leadline_continuation,linear")
    one = answer(*told, *ways, "--out", tmp_path / "one")
    two = answer(*told, *ways, "--out", tmp_path / "two")
    assert one["setup"]["test_queries"] == 120
    assert next(each["without"] for each in one["ablation"]) == "continuation"
    assert _timeless(one) == _timeless(two)


def _timeless(found: dict[str, Any]) -> dict[str, Any]:
    return {
        **found,
        "ways": [{**way, "fit_s": 0, "walk_s": 0} for way in found["ways"]],
    }


def test_a_bandit_log_teaches_what_a_full_one_judges(tmp_path: Path) -> None:
    train = logs.write(tmp_path / "train.parquet", logs.bandit(400).rows)
    test = logs.write(tmp_path / "test.parquet", [_renamed(row) for row in ROWS])
    found = answer(
        *("--train", train, "--test", test, "--out", tmp_path / "out", "--bootstrap", "100"),
        *("--ways", "leadline"),
    )
    assert found["setup"]["test_queries"] == 300


def _renamed(row: logs.Row) -> logs.Row:
    return {**row, "query": f"Again: {row['query']}"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("--train", "log.csv"),
        ("--train", "log.csv", "--test", "log.csv", "--log", "log.csv"),
        (),
        ("--log", "log.csv", "--folds", "1"),
        ("--train", "log.csv", "--test", "log.csv", "--folds", "5"),
        ("--log", "log.csv", "--ways", "knn,magic"),
        ("--log", "log.csv", "--bootstrap", "3"),
    ],
)
def test_arguments_that_do_not_go_together_are_bad_usage(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    logs.write(tmp_path / "log.csv", ROWS[:60])
    assert run(*arguments, "--out", tmp_path / "out").exit_code == 2
    assert not (tmp_path / "out").exists()


def test_a_log_that_cannot_be_judged_on_is_refused_with_the_reason(tmp_path: Path) -> None:
    log = logs.write(tmp_path / "log.csv", ROWS)
    with pytest.raises(InvalidInput, match="0 queries that training has not seen"):
        answer("--train", log, "--test", log, "--out", tmp_path / "out")
    assert not list((tmp_path / "out").glob("*"))


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A directory that holds an earlier benchmark."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "benchmark.json").write_text("earlier")
    return tmp_path / "out"


def test_a_benchmark_that_ends_early_leaves_the_one_before_as_it_was(
    tmp_path: Path, earlier: Path
) -> None:
    log = logs.write(tmp_path / "log.csv", ROWS[:45])
    with pytest.raises(InvalidInput):
        answer("--log", log, "--out", earlier)
    assert (earlier / "benchmark.json").read_text() == "earlier"
    assert [each.name for each in earlier.iterdir()] == ["benchmark.json"]


def test_a_log_with_samples_tells_what_adaptive_sampling_saves(tmp_path: Path) -> None:
    log = logs.write(
        tmp_path / "log.parquet", [each for row in ROWS[:600] for each in _polled(row)]
    )
    told = ("--log", log, "--ways", "mixture", "--bootstrap", "100", "--out", tmp_path / "out")
    found = answer(*told)["sampling"]
    assert found[0]["rule"] == "all 5 samples"
    assert found[0]["sample_share"]["estimate"] == 1.0
    shares = [each["cost_share"]["estimate"] for each in found if "learnt" in each["rule"]]
    assert shares == sorted(shares)
    assert max(shares) < 1.0
    assert "Adaptive sampling" in (tmp_path / "out" / "report.html").read_text()


def _polled(row: logs.Row) -> list[logs.Row]:
    """Five samples of an attempt, of which the third goes wrong."""
    samples = [{**row, "sample_idx": index, "answer": "right"} for index in range(5)]
    samples[2] |= {"answer": "wrong", "score": 0.0}
    return [{**each, "score": float(each["answer"] == "right")} for each in samples]


def test_energy_is_told_where_log_and_catalog_know_it(tmp_path: Path) -> None:
    log = logs.write(tmp_path / "log.jsonl", ROWS)
    told = ("--log", log, "--out", tmp_path / "out", "--bootstrap", "100")
    ways = ("--ways", "uniform,leadline,leadline_continuation")
    models = tmp_path / "models.json"
    priced = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 4.0, "energy_wh_per_ktok": 0.5}
    grids = (("small", 300.0), ("large", 0.0))
    models.write_text(
        json.dumps([{"name": name, "grid_gco2e_per_kwh": grid, **priced} for name, grid in grids])
    )
    found = answer(*told, *ways, "--models", models)
    used = {each["way"]: each for each in found["energy"]}
    assert set(used) == {"best_constant", "mixture", "leadline", "leadline_continuation", "oracle"}
    best = used["best_constant"]
    tokens = [row["input_tokens"] + row["output_tokens"] for row in ROWS]
    assert min(tokens) < best["energy_wh"]["estimate"] * 2_000 < max(tokens)
    assert best["gco2e"] is None
    assert used["leadline"]["at"]["cost_usd"] <= best["at"]["cost_usd"]
    assert "Energy and emissions per decision" in (tmp_path / "out" / "report.html").read_text()
    assert answer(*told, "--ways", "knn")["energy"] == []
