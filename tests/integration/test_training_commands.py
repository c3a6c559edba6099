"""leadline train and leadline logs against files and a real Postgres."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from router.bundle.loader import load, load_archive
from router.bundle.signing import SigningKey, trusted_keys
from router.errors import BadRows, InvalidInput
from router.store.catalog import PostgresCatalog
from router.store.engine import DatabaseRole, connect
from router.store.keys import SigningKeys
from router.store.registry import PostgresRegistry
from router.store.tenants import PostgresTenants
from router.store.training_runs import RunState, TrainingRuns
from router.trust import SIGNING_KEY
from router.types import PolicyState
from tests.kit import logs
from tests.kit.commands import answer, run
from training.log.sources import read
from training.log.splits import holdout


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory of the test's own."""
    monkeypatch.setenv("LEADLINE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("LEADLINE_DSN", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "state"


def test_a_log_becomes_a_signed_bundle_with_no_database(state: Path, tmp_path: Path) -> None:
    log = logs.write(tmp_path / "log.csv", logs.simulated(100).rows)
    result = run("train", "--log", log)
    assert result.exit_code == 0, result.output
    assert "next: leadline decide --policy policy" in result.output
    key = SigningKey.load_or_create(state / SIGNING_KEY)
    bundle = load(tmp_path / "policy", trusted=trusted_keys((), key))
    assert bundle.manifest.training["rows"] == 300
    assert sorted(each.name for each in state.iterdir()) == ["keys"]


def test_training_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    log = logs.write(tmp_path / "log.parquet", logs.simulated(60).rows)
    for out in ("one", "two"):
        assert answer("train", "--log", log, "--out", tmp_path / out)["rows"] == 180
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes(), file.name


def test_bad_rows_stop_the_training_or_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = logs.simulated(60).rows
    rows[6]["score"] = 3.0
    log = logs.write(tmp_path / "log.jsonl", rows)
    with pytest.raises(BadRows, match="row 7: score is outside"):
        answer("train", "--log", log)
    assert not (tmp_path / "policy").exists()
    found = answer("train", "--log", log, "--skip-bad-rows")
    assert (found["refused_rows"], found["rows"]) == (1, 179)


def test_a_directory_that_holds_something_else_is_not_written_to(tmp_path: Path) -> None:
    log = logs.write(tmp_path / "log.jsonl", logs.simulated(60).rows)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    for out in (tmp_path / "mine", log):
        with pytest.raises(InvalidInput, match="holds something else"):
            answer("train", "--log", log, "--out", out)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


def test_out_without_a_log_is_bad_usage() -> None:
    assert run("train", "--out", "policy").exit_code == 2


def test_history_becomes_a_candidate_whose_signer_is_trusted(tmp_path: Path, dsn: str) -> None:
    admin = connect(dsn, role=DatabaseRole.ADMIN)
    PostgresTenants(admin).create("acme", actor="test")
    log = logs.write(tmp_path / "log.parquet", logs.simulated(80).rows)
    imported = ("logs", "import", log, "--tenant", "acme", "--dsn", dsn)
    assert answer(*imported)["new_rows"] == 240
    assert answer(*imported)["new_rows"] == 0

    catalog = PostgresCatalog(admin).read()
    assert [model.name for model in catalog.models] == ["small", "large"]
    assert len(catalog.arms) == 3

    found = answer("train", "--dsn", dsn)
    assert (found["state"], found["rows"]) == ("candidate", 240)
    assert found["next"] == f"leadline policies promote {found['version']}"
    archive = PostgresRegistry(admin).bundle(found["version"])
    router = connect(dsn, role=DatabaseRole.ROUTER)
    bundle = load_archive(archive, trusted=SigningKeys(router).trusted())
    assert {model.name for model in bundle.manifest.models} == {"small", "large"}
    assert PostgresRegistry(admin).records()[0].state is PolicyState.CANDIDATE

    answer("logs", "export", "--out", tmp_path / "out.parquet", "--dsn", dsn)
    assert len(read(tmp_path / "out.parquet").table) == 240
    late = ("--since", "2100-01-01", "--out", tmp_path / "late.parquet", "--dsn", dsn)
    assert answer("logs", "export", *late)["rows"] == 0
    admin.dispose()
    router.dispose()


def test_a_run_that_cannot_learn_is_in_the_book_with_its_reason(dsn: str) -> None:
    with pytest.raises(InvalidInput, match="no rows"):
        answer("train", "--dsn", dsn)
    trainer = connect(dsn, role=DatabaseRole.TRAINER)
    (entry,) = TrainingRuns(trainer).recent()
    assert entry.state is RunState.FAILED
    assert "no rows" in (entry.error or "")
    trainer.dispose()


def test_recorded_outcomes_train_to_a_policy_that_beats_constants(tmp_path: Path) -> None:
    table = read(logs.real("cascades.parquet")).table
    kept = holdout(table["query"].to_pylist(), 0.3, seed=7)
    pq.write_table(table.filter(pa.array(kept)), tmp_path / "log.parquet")
    found = answer("train", "--log", tmp_path / "log.parquet", "--out", tmp_path / "bundle")
    assert (found["arms"], found["refused_rows"]) == (9, 0)
    held_out = found["held_out"]
    assert held_out["prediction"]["ece"] < 0.05
    assert held_out["prediction"]["auc"] > 0.7
    assert held_out["routing"]["gap_closed"] > 0.03
