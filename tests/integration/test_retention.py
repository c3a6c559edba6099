"""Retention: what a tenant keeps no longer is gone everywhere, and nobody else loses a row."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from router.commands import db, tenants
from router.errors import InvalidInput, NotFound
from router.store.archive_files import ArchiveDirectory
from router.store.archiving import Step
from router.store.engine import DatabaseRole, connect
from router.store.retention import Expired, Expiry, set_retention
from tests.kit.months import archiver, everything, fill, with_months
from tests.kit.postgres import rows

START = datetime(2026, 1, 1, tzinfo=UTC)
COUNT = 30
NOW = START + timedelta(days=100)


@pytest.fixture
def grown(dsn: str) -> str:
    """A database with rows of two tenants in January and in February; one keeps 80 days."""
    with_months(dsn, START, 3)
    for days in (0, 31):
        fill(dsn, START + timedelta(days=days), COUNT, "acme", "globex")
    keep(dsn, "acme", 80)
    return dsn


def keep(dsn: str, name: str, days: int | None) -> None:
    admin = connect(dsn, role=DatabaseRole.ADMIN)
    try:
        set_retention(admin, name, days, actor="test")
    finally:
        admin.dispose()


def expired(dsn: str, directory: Path, now: datetime = NOW) -> list[Expired]:
    with Expiry(dsn, ArchiveDirectory(directory)) as found:
        return found.run(now)


def texts(directory: Path) -> set[Any]:
    """All that the archive says anyone asked."""
    archive = ArchiveDirectory(directory)
    return {
        (file.tenant, text)
        for month in archive.months()
        for file in month.files
        if file.table in {"decisions", "interactions"}
        for batch in archive.read(file)
        for text in batch.column("query").to_pylist()
    }


def test_rows_in_postgres_go_when_their_time_is_over(grown: str, tmp_path: Path) -> None:
    (found,) = expired(grown, tmp_path)
    assert (found.tenant, found.in_postgres, found.in_archive) == ("acme", 4 * COUNT, 0)
    kept = "select name, count(*) from decisions join tenants using (tenant_id) group by 1"
    assert dict(rows(grown, kept)) == {"acme": COUNT, "globex": 2 * COUNT}  # type: ignore[arg-type]
    assert expired(grown, tmp_path)[0].in_postgres == 0


@pytest.mark.parametrize("drop", [False, True])
def test_rows_that_were_detached_and_archived_go_too(
    grown: str, tmp_path: Path, *, drop: bool
) -> None:
    with archiver(grown, tmp_path) as found:
        found.archive(found.months()[0], drop=drop)
    (told,) = expired(grown, tmp_path)
    assert told.in_postgres == (0 if drop else 4 * COUNT)
    assert told.in_archive == 5 * COUNT
    assert {tenant for tenant, _ in texts(tmp_path)} == {"globex"}
    assert not list(tmp_path.rglob("tenant=acme/*/*.parquet"))
    with archiver(grown, tmp_path) as found:
        ArchiveDirectory(tmp_path).check(ArchiveDirectory(tmp_path).months()[0])
        assert drop or found.archive(found.months()[0], drop=True) is Step.DROPPED


def test_a_month_that_is_half_over_keeps_its_other_half(grown: str, tmp_path: Path) -> None:
    with archiver(grown, tmp_path) as found:
        found.archive(found.months()[0], drop=True)
    expired(grown, tmp_path, START + timedelta(days=80, hours=10))
    left = {text for tenant, text in texts(tmp_path) if tenant == "acme"}
    assert left == {f"acme asks {number}" for number in range(10, COUNT)}
    assert len(everything(grown, tmp_path)["decisions"]) == 4 * COUNT - 10


def test_a_tenant_that_says_nothing_keeps_everything(grown: str, tmp_path: Path) -> None:
    keep(grown, "acme", None)
    assert expired(grown, tmp_path) == []


def test_what_cannot_be_kept_so_is_refused(grown: str) -> None:
    with pytest.raises(InvalidInput, match="0 is not from 1 to"):
        keep(grown, "acme", 0)
    with pytest.raises(NotFound):
        keep(grown, "nobody", 5)


def test_the_commands_set_how_long_and_erase(grown: str, tmp_path: Path) -> None:
    def said(app: Any, *command: str) -> Any:
        return orjson.loads(CliRunner().invoke(app, [*command, "--json", "--dsn", grown]).stdout)

    assert said(tenants.app, "set-retention", "globex", "1")["retention_days"] == 1
    listed = {each["name"]: each["retention_days"] for each in said(tenants.app, "list")}
    assert listed == {"acme": 80, "globex": 1}
    told = said(db.app, "expire", "--to", str(tmp_path))
    assert [(each["tenant"], each["in_postgres"]) for each in told][1] == ("globex", 8 * COUNT)
