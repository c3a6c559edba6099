"""leadline db archive and expire: past months to partitioned Parquet, and what is kept."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.commands.database import opened
from router.commands.options import Dsn, JsonFlag, duration, settings
from router.commands.output import progress, show

if TYPE_CHECKING:
    from router.settings import Settings
    from router.store.archiving import Archiver, Step

ARCHIVE = "archive"
COLUMNS = ("month", "step", "decisions", "attempts", "outcomes")

Directory = Annotated[
    Path | None,
    typer.Option("--to", help="The archive's directory; default in LEADLINE_STATE_DIR."),
]


def directory_of(config: Settings, to: Path | None) -> Path:
    """Where the archive is."""
    return to or config.state_dir / ARCHIVE


def archive(
    *,
    older_than: Annotated[
        str, typer.Option("--older-than", help="Months that ended so long ago or longer.")
    ] = "90d",
    to: Directory = None,
    drop: Annotated[
        bool, typer.Option("--drop", help="Drop what is detached, once files and rows agree.")
    ] = False,
    dsn: Dsn = "",
    as_json: JsonFlag = False,
) -> None:
    """Writes past months to Parquet by tenant and month, and detaches them from the logs.

    A month is detached once its files were read back and Postgres has the same rows, and
    dropped with --drop alone. A run that was broken off is finished by the next one.

    Example: leadline db archive --older-than 90d --to /var/lib/leadline/archive --drop
    """
    from router.store import schema  # noqa: PLC0415
    from router.store.archive_files import ArchiveDirectory  # noqa: PLC0415
    from router.store.archiving import Archiver  # noqa: PLC0415

    config = settings(dsn=dsn)
    try:
        cut = datetime.now(UTC) - duration(older_than)
    except typer.BadParameter as error:
        raise typer.BadParameter(error.message, param_hint="--older-than") from None
    files = ArchiveDirectory(directory_of(config, to))
    with opened(config) as (where, _), progress() as shown:
        schema.check(where)
        task = shown.add_task("archiving", total=None)
        with Archiver(where, files, lambda step: shown.update(task, description=step)) as found:
            done = _archived(found, cut, drop=drop)
    vouched = {each.month: each.rows for each in files.months()}
    told = [{"month": month, "step": step, **vouched.get(month, {})} for month, step in done]
    rows = [tuple(each.get(name, 0) for name in COLUMNS) for each in told]
    empty = f"no month ended before {cut:%Y-%m-%d} that is not archived"
    show(told, rows, COLUMNS, as_json=as_json, empty=empty)


def expire(*, to: Directory = None, dsn: Dsn = "", as_json: JsonFlag = False) -> None:
    """Erases what tenants keep no longer, in the database and in the archive.

    How long is said with 'leadline tenants set-retention'. Run it daily.

    Example: leadline db expire --to /var/lib/leadline/archive
    """
    from router.store import schema  # noqa: PLC0415
    from router.store.archive_files import ArchiveDirectory  # noqa: PLC0415
    from router.store.retention import Expiry  # noqa: PLC0415

    config = settings(dsn=dsn)
    files = ArchiveDirectory(directory_of(config, to))
    with opened(config) as (where, _):
        schema.check(where)
        with Expiry(where, files) as expiry:
            found = expiry.run(datetime.now(UTC))
    rows = [(each.tenant, each.before, each.in_postgres, each.in_archive) for each in found]
    columns = ("tenant", "before", "in Postgres", "in the archive")
    show(found, rows, columns, as_json=as_json, empty="every tenant keeps its rows for ever")


def _archived(archiver: Archiver, cut: datetime, *, drop: bool) -> list[tuple[str, Any]]:
    done: list[tuple[str, Step]] = []
    for month in archiver.months():
        if month.end <= cut:
            step = archiver.archive(month, drop=drop)
            done += [(month.name, step)] if step else []
    return done
