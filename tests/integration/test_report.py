"""The report of a run on a real database: it is there after it, and tells what the gate saw."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.commands import answer, run
from tests.kit.nights import decided, history
from tests.kit.pages import Page


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LEADLINE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("LEADLINE_DSN", raising=False)
    return tmp_path / "state"


def test_a_run_tells_where_its_report_is_and_that_tells_what_the_gate_saw(
    dsn: str, state: Path
) -> None:
    decided(dsn, 700)
    told = answer("train", "--dsn", dsn, "--no-canary")
    path = Path(told["report"])
    assert path.parent == state / "reports"
    page = Page(path.read_text())
    assert page.fetched == []
    for each in ("The gate's verdict", "Frontier, costs and latency", "Slices", "Provenance"):
        assert each in page.headings
    text = " ".join(page.texts)
    gate = told["gate"]
    for condition in gate["conditions"]:
        assert condition["must"] in text
    assert f"On {gate['interactions']:,} held-out interactions" in text
    assert told["dataset_digest"] in text
    assert "looked" not in gate
    assert ("Promoted: policy 1" if gate["promote"] else "Kept the static fallback because") in text


def test_a_run_that_no_gate_could_judge_says_why(dsn: str) -> None:
    history(dsn)
    result = run("train", "--dsn", dsn)
    assert result.exit_code == 0, result.output
    (line,) = (each for each in result.output.splitlines() if each.startswith("report: "))
    page = Page(Path(line.removeprefix("report: ")).read_text())
    assert "Kept the static fallback because policy 1 could not be judged: " in " ".join(page.texts)
    assert "The gate's verdict" not in page.headings
