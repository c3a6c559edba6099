"""leadline policies compare: real bundles on files, and registered ones on a database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from router import cli
from router.errors import InvalidInput, NotFound
from tests.kit import logs
from tests.kit.commands import answer
from tests.kit.pages import Page
from tests.kit.watching import world

FIGURES = ["accuracy", "cost_usd", "latency_s"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two policies, of little and of more history, and logs unseen by both."""
    folder = tmp_path_factory.mktemp("compare")
    logs.write(folder / "little.parquet", logs.simulated(50, seed=1).rows)
    logs.write(folder / "more.parquet", logs.simulated(200, seed=2).rows)
    logs.write(folder / "new.parquet", logs.simulated(300, seed=3).rows)
    logs.write(folder / "bandit.jsonl", logs.bandit(900, seed=4).rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEADLINE_STATE_DIR", str(folder / "state"))
        for name in ("little", "more"):
            answer("train", "--log", folder / f"{name}.parquet", "--out", folder / name)
    return folder


@pytest.fixture(autouse=True)
def state(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEADLINE_STATE_DIR", str(place / "state"))
    monkeypatch.delenv("LEADLINE_DSN", raising=False)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.build(), ["policies", "compare", *map(str, arguments)])


def found(*arguments: str | Path) -> dict[str, Any]:
    result = run(*arguments, "--json")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    plain: dict[str, Any] = json.loads(result.stdout)
    return plain


def test_two_bundles_are_compared_on_a_file_with_no_database(place: Path) -> None:
    slos = '[{"min_accuracy": 0.7}, {"accuracy_value_usd": 0.001}]'
    plain = found(place / "little", place / "more", "--log", place / "new.parquet", "--slo", slos)
    assert [each["slo"] for each in plain["slos"]] == [
        "min_accuracy 0.7",
        "accuracy_value_usd 0.001",
    ]
    for each in plain["slos"]:
        assert (each["interactions"], each["unseen"]) == (300, 300)
        assert [figure["name"] for figure in each["figures"]] == FIGURES
        for figure in each["figures"]:
            one, other = figure["measured"]
            apart = figure["difference"]
            assert apart["low"] <= apart["estimate"] <= apart["high"]
            assert apart["estimate"] == pytest.approx(other["estimate"] - one["estimate"])
        assert {one["name"] for one in each["calibration"]} == {"A", "B"}
        assert each["slices"]
    assert any(each["differing"] > 0.0 for each in plain["slos"])
    assert "times do not tell" in plain["caution"]


def test_a_policy_does_not_differ_from_itself(place: Path) -> None:
    plain = found(place / "more", place / "more", "--log", place / "bandit.jsonl")
    (only,) = plain["slos"]
    assert only["differing"] == 0.0
    for figure in only["figures"]:
        told = figure["difference"]
        assert (told["estimate"], told["low"], told["high"]) == (0.0, 0.0, 0.0)


def test_people_read_a_table_and_a_page(place: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    result = run(
        *(place / "little", place / "more", "--log", place / "bandit.jsonl"),
        *("--slo", '{"min_accuracy": 0.7}', "--html", page),
    )
    assert result.exit_code == 0, result.output
    for each in ("of decisions differ", "B less A", "as predicted", f"page: {page}"):
        assert each in result.output
    read = Page(page.read_text())
    assert read.fetched == []
    assert "script" not in read.tags
    assert "Slo min_accuracy 0.7" in read.headings


def test_the_log_that_taught_one_of_them_cannot_tell(place: Path) -> None:
    plain = found(place / "little", place / "more", "--log", place / "more.parquet", "--held-out")
    (only,) = plain["slos"]
    assert only["unseen"] == 0
    reason = "cannot tell: a policy has learnt from this very log"
    assert {figure["difference"]["reason"] for figure in only["figures"]} == {reason}
    assert only["figures"][0]["predicted"][0] is not None


def test_bad_usage_and_unknown_policies_are_named(place: Path) -> None:
    with pytest.raises(NotFound, match="'nobody' is neither a version nor a bundle"):
        found("nobody", place / "more", "--log", place / "new.parquet")
    with pytest.raises(InvalidInput, match="does not exist"):
        found(place / "more", place / "more", "--log", place / "none.parquet")
    assert run(place / "more", place / "more", "--slo", "{}x").exit_code == 2
    assert run(place / "more", place / "more", "--slo", '{"min_accuracy": 1}').exit_code == 2


@pytest.fixture
def versions(dsn: str) -> Iterator[str]:
    """A database with two policies and scored decisions under two slos."""
    with world(dsn) as made:
        made.promote(trees=40)
        for name, count in (("chat", 200), ("bulk", 100)):
            slo = made.put(name=name, accuracy_value_usd=0.01 if name == "chat" else 0.001)
            made.scored(made.decided(slo, count), 0.8)
        yield dsn


def test_registered_policies_are_compared_on_recent_decisions_by_slo(versions: str) -> None:
    plain = found("1", "2", "--dsn", versions)
    assert (plain["one"], plain["other"]) == ("policy 1", "policy 2")
    told = {each["slo"]: each for each in plain["slos"]}
    assert {name: each["interactions"] for name, each in told.items()} == {
        "all slos": 300,
        "acme bulk": 100,
        "acme chat": 200,
    }
    accuracy = told["all slos"]["figures"][0]
    assert accuracy["name"] == "accuracy"
    both = [*accuracy["measured"], accuracy["difference"]]
    assert all(each["reason"] or each["low"] <= each["estimate"] <= each["high"] for each in both)


def test_without_recent_decisions_it_says_how_to_get_some(dsn: str, place: Path) -> None:
    with pytest.raises(InvalidInput, match=r"no decision was made since .*--days"):
        found(place / "little", place / "more", "--dsn", dsn)
