"""leadline certificates compute on files, and what it promises, small, on real outcomes."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from router.errors import BadRows, InvalidInput
from router.policy.certificate import Certificate, Status
from router.policy.hedging import Sample
from tests.kit import logs
from tests.kit.bound import bound
from tests.kit.commands import answer, run
from tests.kit.embedding import embedder
from tests.kit.populations import FULL, UNIFORM, Population, populated
from tests.kit.shared_data import shared
from tests.promises.certificates import Found, certified, margins
from training.benchmark.splits import few, held_out
from training.learning.policy import learn
from training.log.dataset import Dataset
from training.log.sources import read

SLO = '{"min_accuracy": 0.5}'


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a policy, the log that it has learnt from, and a log that it has not."""
    folder = tmp_path_factory.mktemp("certificates")
    logs.write(folder / "old.parquet", logs.simulated(150, seed=1).rows)
    rows = [
        {**row, "occurred_at": f"2026-01-{1 + number % 28:02d}T00:00:00Z"}
        for number, row in enumerate(logs.simulated(500, seed=2).rows)
    ]
    logs.write(folder / "new.jsonl", rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEADLINE_STATE_DIR", str(folder / "state"))
        answer("train", "--log", folder / "old.parquet", "--out", folder / "policy")
    return folder


@pytest.fixture(autouse=True)
def state(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEADLINE_STATE_DIR", str(place / "state"))


def compute(place: Path, *rest: str | Path, log: str = "new.jsonl") -> tuple[str | Path, ...]:
    return (
        *("certificates", "compute", "--policy", place / "policy"),
        *("--log", place / log, *rest),
    )


def test_a_certificate_comes_from_files_alone(place: Path) -> None:
    found = answer(*compute(place, "--slo", SLO))
    certificate = Certificate.from_mapping(found)
    assert certificate.status is Status.CERTIFIED
    assert certificate.lower_bound >= 0.5
    assert certificate.n == len(read(place / "new.jsonl").table.column("query").unique())
    assert certificate.window is not None
    assert certificate.window.since.isoformat() == "2026-01-01T00:00:00+00:00"
    assert answer(*compute(place, "--slo", SLO)) == found


def test_more_queries_without_outcomes_are_used_and_counted(place: Path) -> None:
    pool = place / "pool.jsonl"
    texts = logs.simulated(1_300, seed=3).texts
    pool.write_text("".join(json.dumps({"query": text}) + "\n" for text in texts))
    found = answer(*compute(place, "--slo", SLO, "--queries", pool))
    assert found["unlabelled_n"] == found["n"] * (1_300 // found["n"])
    pool.write_text("not json\n")
    with pytest.raises(InvalidInput, match="line 1 is no JSON object"):
        answer(*compute(place, "--slo", SLO, "--queries", pool))


def test_several_slos_give_a_certificate_each_for_people_and_machines(place: Path) -> None:
    slos = '[{"min_accuracy": 0.5}, {"min_accuracy": 0.99}]'
    found = answer(*compute(place, "--slo", slos))
    assert [each["status"] for each in found] == ["certified", "infeasible"]  # type: ignore[index]
    shown = run(*compute(place, "--slo", slos))
    assert shown.exit_code == 0
    assert "certified: a mean accuracy of at least 0.5" in shown.output
    assert "infeasible: no trade-off reaches" in shown.output


def test_the_log_that_the_policy_has_learnt_from_is_refused(place: Path) -> None:
    with pytest.raises(InvalidInput, match="has learnt from this very log"):
        answer(*compute(place, "--slo", SLO, log="old.parquet"))


def test_bad_rows_and_bad_usage_are_named(place: Path) -> None:
    (place / "bad.jsonl").write_text(
        "".join(json.dumps({**row, "score": 7}) + "\n" for row in logs.simulated(2).rows)
    )
    with pytest.raises(BadRows, match="score is outside"):
        answer(*compute(place, "--slo", SLO, log="bad.jsonl"))
    assert run(*compute(place, "--slo", '{"min_accuracy": 3}')).exit_code == 2
    with pytest.raises(InvalidInput, match="no floor to certify"):
        answer(*compute(place, "--slo", "{}"))


@cache
def people() -> Population:
    """Half of a real table, as the population of a policy that has learnt from the other."""
    split = held_out(Dataset.from_table(read(shared("cascades")).table), 0.5, 0)
    taught = few(split.train, 250, seed=0)
    return populated("cascades", split, bound(learn(taught, embedder=embedder())))


@pytest.mark.parametrize("how", [FULL, UNIFORM])
def test_real_certificates_are_false_no_more_often_than_stated(how: str) -> None:
    cells = list(certified(people(), how, 300, people().floors[:2], runs=200, seed=1))
    found = Found(cells=tuple(cells), margins=())
    assert found.worst.false <= found.most_false
    assert cells[0].none < (0.1 if how == FULL else 0.8)


def test_real_predictions_shorten_the_margin() -> None:
    score, expected = (
        people().made.mean(each) for each in (people().score, people().made.accuracy)
    )
    sample = Sample(values=score, controls=expected - expected.mean(axis=0))
    shorter = 1.0 - np.sqrt(sample.corrected.var(axis=0) / score.var(axis=0))
    assert (shorter > 0.01).all()


def test_real_margins_are_shorter_than_other_bounds_leave_them() -> None:
    each = margins(people(), 300, runs=60, seed=2)
    assert each.plain < min(each.growth_bets, each.hoeffding_bentkus, each.empirical_bernstein)
