"""Archiving: what leaves Postgres is in files that say the same, whatever is killed and when."""

from __future__ import annotations

import itertools
import multiprocessing
import signal
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pyarrow.dataset as ds
import pytest
from typer.testing import CliRunner

from router.commands.db import app
from router.errors import ConfigurationError, Conflict
from router.ids import uuid7
from router.store.archive_files import ArchiveDirectory
from router.store.archived_rows import archived_attempts
from router.store.archiving import Step
from router.store.attempts import attempts
from router.store.engine import DatabaseRole, connect
from tests.kit.months import (
    Killing,
    archive_killed,
    archiver,
    everything,
    fill,
    ship,
    with_months,
)
from tests.kit.postgres import rows
from tests.kit.records import decision, outcome

START = datetime(2026, 1, 1, tzinfo=UTC)
COUNT = 30


def tenant(dsn: str) -> Any:
    return rows(dsn, "select tenant_id from tenants where name = 'acme'")[0][0]


@pytest.fixture
def grown(dsn: str) -> str:
    """A database with rows of two tenants in January, and some in February."""
    with_months(dsn, START, 3)
    fill(dsn, START, COUNT, "acme", "globex")
    fill(dsn, START + timedelta(days=31), 3, "acme")
    return dsn


def test_a_month_goes_to_parquet_by_tenant_and_no_row_is_lost(grown: str, tmp_path: Path) -> None:
    before = everything(grown, tmp_path)
    with archiver(grown, tmp_path) as found:
        january, *_ = found.months()
        assert found.archive(january, drop=True) is Step.DROPPED
    assert everything(grown, tmp_path) == before
    assert rows(grown, "select count(*) from decisions") == [(3,)]
    assert rows(grown, "select to_regclass('decisions_2026_01')") == [(None,)]
    table = ds.dataset(tmp_path / "decisions", partitioning="hive").to_table()
    assert sorted(set(table["tenant"].to_pylist())) == ["acme", "globex"]
    assert set(table["month"].to_pylist()) == {"2026-01"}
    taught = ds.dataset(tmp_path / "interactions", partitioning="hive").to_table()
    assert len(taught) == 2 * COUNT
    assert taught["sources"].to_pylist()[0] == ["feedback", "judge"]


def test_what_is_detached_is_dropped_later(grown: str, tmp_path: Path) -> None:
    with archiver(grown, tmp_path) as found:
        assert found.archive(found.months()[0], drop=False) is Step.DETACHED
        assert found.archive(found.months()[0], drop=False) is None
        assert found.archive(found.months()[0], drop=True) is Step.DROPPED
        assert [month.name for month in found.months()][:2] == ["2026-02", "2026-03"]


def test_what_arrives_after_a_month_was_written_is_written_too(grown: str, tmp_path: Path) -> None:
    late = decision(tenant(grown), decision_id=uuid7(START))

    def arrive(step: str) -> None:
        if step == "detaching 2026-01":
            ship(grown, late)

    with archiver(grown, tmp_path, arrive) as found:
        found.archive(found.months()[0], drop=True)
    assert str(late.row_id) in everything(grown, tmp_path)["decisions"]


def test_training_reads_archived_months_as_if_they_were_still_there(
    grown: str, tmp_path: Path
) -> None:
    engine = connect(grown, role=DatabaseRole.TRAINER)

    def read() -> list[dict[str, Any]]:
        batches = (*archived_attempts(engine, tmp_path), *attempts(engine))
        return [row for batch in batches for row in batch.to_pylist()]

    before = [row for batch in attempts(engine) for row in batch.to_pylist()]
    with archiver(grown, tmp_path, Killing(number=10)) as found, suppress(KeyboardInterrupt):
        found.archive(found.months()[0], drop=True)
    assert [month.month for month in ArchiveDirectory(tmp_path).months()] == ["2026-01"]
    assert sorted(read(), key=str) == sorted(before, key=str)
    with archiver(grown, tmp_path) as found:
        found.archive(found.months()[0], drop=True)
    assert sorted(read(), key=str) == sorted(before, key=str)
    engine.dispose()


def test_a_report_of_an_archived_decision_stays_in_postgres(grown: str, tmp_path: Path) -> None:
    made = decision(tenant(grown), decision_id=uuid7(START))
    ship(grown, made)
    with archiver(grown, tmp_path) as found:
        found.archive(found.months()[0], drop=True)
    ship(grown, outcome(made, occurred_at=datetime.now(UTC), score=1.0))
    assert rows(grown, "select count(*) from outcomes_default") == [(1,)]


def test_nothing_is_dropped_unless_the_files_are_as_they_were_written(
    grown: str, tmp_path: Path
) -> None:
    with archiver(grown, tmp_path) as found:
        found.archive(found.months()[0], drop=False)
        file = next((tmp_path / "outcomes").rglob("*.parquet"))
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(ConfigurationError, match="is not the file that was archived"):
            found.archive(found.months()[0], drop=True)
        file.write_bytes(whole)
        assert found.archive(found.months()[0], drop=True) is Step.DROPPED


def test_another_archive_is_not_taken_for_the_one_that_has_the_month(
    grown: str, tmp_path: Path
) -> None:
    with archiver(grown, tmp_path / "one") as found:
        found.archive(found.months()[0], drop=False)
    with archiver(grown, tmp_path / "other") as found, pytest.raises(Conflict, match="not in this"):
        found.archive(found.months()[0], drop=True)


def test_one_at_a_time_archives(grown: str, tmp_path: Path) -> None:
    with archiver(grown, tmp_path), pytest.raises(Conflict), archiver(grown, tmp_path):
        pass


def test_a_run_that_was_broken_off_at_any_step_is_finished_by_the_next(
    grown: str, tmp_path: Path
) -> None:
    before = everything(grown, tmp_path)
    for number in itertools.count():
        with archiver(grown, tmp_path, Killing(number=number)) as found:
            try:
                found.archive(found.months()[0], drop=number > 6)
                break
            except KeyboardInterrupt:
                assert everything(grown, tmp_path) == before
    assert everything(grown, tmp_path) == before
    assert len(ArchiveDirectory(tmp_path).months()) == 1


def test_kill_9_while_it_archives_loses_no_row(grown: str, tmp_path: Path) -> None:
    before = everything(grown, tmp_path)
    spawned = multiprocessing.get_context("spawn")
    for number in (3, 11):
        child = spawned.Process(target=archive_killed, args=(grown, str(tmp_path), number))
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        assert everything(grown, tmp_path) == before
    with archiver(grown, tmp_path) as found:
        found.archive(found.months()[0], drop=True)
    assert everything(grown, tmp_path) == before
    assert not list(tmp_path.rglob("*.writing"))


def test_the_command_archives_what_ended_long_enough_ago(grown: str, tmp_path: Path) -> None:
    command = ["archive", "--to", str(tmp_path), "--drop", "--json", "--dsn", grown]
    told = orjson.loads(CliRunner().invoke(app, command).stdout)
    months = [(each["month"], each["step"], each.get("outcomes")) for each in told]
    assert months[:2] == [("2026-01", "dropped", 4 * COUNT), ("2026-02", "dropped", 6)]
    assert orjson.loads(CliRunner().invoke(app, command).stdout) == []
