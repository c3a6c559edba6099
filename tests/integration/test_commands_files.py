"""decide and replay on files, with a small real bundle."""

from __future__ import annotations

import io
import json
import random
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from router import cli
from tests.kit.bundles import KEY
from tests.kit.policies import catalog
from tests.kit.serving_bundles import bundle

QUERIES = [{"query_id": f"q{n}", "query": f"What is {n} + {n * n}?"} for n in range(30)]
SLO = '{"accuracy_value_usd": 0.5}'


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a bundle, queries and a full-information log."""
    place = tmp_path_factory.mktemp("files")
    (place / "policy.zip").write_bytes(bundle(catalog()))
    (place / "q.jsonl").write_text("".join(json.dumps(each) + "\n" for each in QUERIES))
    write(place / "log.parquet", rows())
    return place


@pytest.fixture(autouse=True)
def _trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LEADLINE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("LEADLINE_TRUSTED_KEYS", json.dumps([KEY.public_key.hex()]))


def rows() -> list[dict[str, Any]]:
    draw = random.Random(5)
    return [
        query
        | {
            "model": arm.model,
            "strategy": arm.strategy,
            "strategy_params": json.dumps(dict(arm.params)),
            "score": float(draw.random() < 0.5),
            "cost_usd": draw.random() / 1_000,
            "latency_s": draw.random(),
            "confidence": draw.random(),
        }
        for query in QUERIES
        for arm in catalog().arms
        if draw.random() < 0.8
    ]


def write(path: Path, log: list[dict[str, Any]]) -> None:
    pa.parquet.write_table(pa.Table.from_pylist(log), path)


def run(command: str, files: Path, out: Path, *more: str) -> int:
    source = ["--queries", str(files / "q.jsonl")] if command == "decide" else []
    return cli.run(
        [command, "--policy", str(files / "policy.zip"), *source, "--out", str(out), *more]
    )


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_decide_writes_a_line_per_query_in_order(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "d.jsonl"
    assert run("decide", files, out, "--slo", SLO) == 0
    decided = read(out)
    assert [each["query_id"] for each in decided] == [each["query_id"] for each in QUERIES]
    keys = ["query_id", "arm", "expected", "difficulty", "continuation", "slo_status", "reason"]
    assert list(decided[0]) == keys
    assert list(decided[0]["expected"]) == [
        "accuracy",
        "cost_usd",
        "latency_p50_s",
        "latency_p95_s",
    ]
    assert list(decided[0]["arm"]) == ["model", "strategy", "params"]


def test_several_slos_give_a_line_per_slo_and_query(files: Path, tmp_path: Path) -> None:
    one, many = tmp_path / "one.jsonl", tmp_path / "many.jsonl"
    assert run("decide", files, one, "--slo", SLO) == 0
    assert run("decide", files, many, "--slo", f'[{{"min_accuracy": 0.5}}, {SLO}]') == 0
    decided = read(many)
    assert [each.pop("slo_index") for each in decided] == [0] * 30 + [1] * 30
    assert decided[30:] == read(one)


def test_decide_reads_stdin_and_writes_stdout(
    files: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr(
        sys, "stdin", io.TextIOWrapper(io.BytesIO((files / "q.jsonl").read_bytes()))
    )
    policy = str(files / "policy.zip")
    assert cli.run(["decide", "--policy", policy, "--queries", "-", "--out", "-"]) == 0
    assert capfdbinary.readouterr().out.count(b"\n") == len(QUERIES)


def test_a_bad_line_leaves_no_output(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, out = tmp_path / "bad.jsonl", tmp_path / "d.jsonl"
    bad.write_text((files / "q.jsonl").read_text() + '{"query_id": "z"}\n')
    policy = str(files / "policy.zip")
    assert cli.run(["decide", "--policy", policy, "--queries", str(bad), "--out", str(out)]) == 1
    assert "line 31" in capsys.readouterr().err
    assert not out.exists()


def test_replay_sees_neither_scores_nor_what_it_did_not_attempt(
    files: Path, tmp_path: Path
) -> None:
    first, again, bare = (tmp_path / name for name in ("a.jsonl", "b.jsonl", "c.jsonl"))
    assert run("replay", files, first, "--log", str(files / "log.parquet"), "--slo", SLO) == 0
    replayed = {each["query_id"]: each for each in read(first)}
    attempted = {
        (each["query_id"], json.dumps(attempt["arm"]))
        for each in replayed.values()
        for attempt in each["attempts"]
    }
    log = rows()
    for row in log:
        row["score"] = 1.0 - row["score"]
        arm = {
            "model": row["model"],
            "strategy": row["strategy"],
            "params": json.loads(row["strategy_params"]),
        }
        if (row["query_id"], json.dumps(arm)) not in attempted:
            row |= {"cost_usd": 9.0, "latency_s": 99.0, "confidence": -30.0}
    write(tmp_path / "spoiled.parquet", log)
    write(tmp_path / "bare.parquet", [{k: v for k, v in r.items() if k != "score"} for r in log])
    for out, name in ((again, "spoiled"), (bare, "bare")):
        assert (
            run("replay", files, out, "--log", str(tmp_path / f"{name}.parquet"), "--slo", SLO) == 0
        )
        assert out.read_bytes() == first.read_bytes()
    assert max(len(each["attempts"]) for each in replayed.values()) > 1


def test_replay_sums_what_its_attempts_cost(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.jsonl"
    assert run("replay", files, out, "--log", str(files / "log.parquet"), "--slo", f"[{SLO}]") == 0
    for each in read(out):
        assert each["slo_index"] == 0
        assert each["cost_usd"] == pytest.approx(sum(a["cost_usd"] for a in each["attempts"]))
        assert each["latency_s"] == pytest.approx(sum(a["latency_s"] for a in each["attempts"]))
        assert each["final"] in [attempt["arm"] for attempt in each["attempts"]]


def explain(files: Path, *more: str) -> int:
    return cli.run(["policies", "explain", "--policy", str(files / "policy.zip"), *more])


def test_an_explanation_is_json_for_machines_and_tables_for_people(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--query", "What is 3 + 9?", "--slo", '{"max_cost_usd": 0.5}', "--arm", "m1:single")
    assert explain(files, *asked, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["arm", "reason", "slo_status", "policy_version", "explanation"]
    picked, beside = found["explanation"]["arms"]
    assert beside["arm"] == "m1:single"
    terms = picked["terms"]
    added = terms["mean"] + terms["trees_expected"] + terms["trees_other"]
    added += sum(each["log_odds"] for each in terms["signals"] + terms["trees"])
    assert added == pytest.approx(terms["log_odds"])
    assert explain(files, *asked) == 0
    printed = capsys.readouterr().out
    for name in (picked["arm"], "m1:single", "signal_neighbours", "landmark", "the arm's mean"):
        assert name in printed
    assert "What is" not in printed


def test_queries_of_a_file_are_explained_one_by_one_or_have_their_reason(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--queries", str(files / "q.jsonl"), "--json", "--slo")
    assert explain(files, *asked, SLO) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["query_id"] for each in found] == [each["query_id"] for each in QUERIES]
    assert all(each["explanation"]["value_usd"] == 0.5 for each in found)
    assert explain(files, *asked, '{"max_cost_usd": 1e-9, "on_infeasible": "reject"}') == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["explanation"] for each in found] == [None] * 30
    assert all("no arm meets" in each["reason"] for each in found)


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["--query", "x", "--arm", "m9:single"], 1, "m9:single"),
        (["--query", "x", "--slo", "[{}, {}]"], 2, "--slo"),
        (["3", "--query", "x"], 2, "VERSION"),
        ([], 2, "--query"),
    ],
)
def test_what_cannot_be_explained_is_one_line(
    files: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    named: str,
) -> None:
    assert explain(files, *arguments) == code
    printed = capsys.readouterr().err
    assert named in printed
    assert printed.count("\n") == 1


def test_machines_get_json_alone(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("decide", files, tmp_path / "d.jsonl", "--json") == 0
    assert json.loads(capsys.readouterr().out)["decisions"] == len(QUERIES)


def test_a_policy_of_a_stranger_is_refused_in_one_line(
    files: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("LEADLINE_TRUSTED_KEYS")
    assert run("decide", files, tmp_path / "d.jsonl") == 1
    assert "not trusted here" in capsys.readouterr().err
    assert run("decide", files, tmp_path / "d.jsonl", "--trusted-key", KEY.public_key.hex()) == 0
