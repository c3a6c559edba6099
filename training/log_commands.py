"""leadline logs: history in, Parquet out."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from router.commands.options import Dsn, JsonFlag
from router.commands.output import print_json, progress, say
from training.shown import left_out

app = typer.Typer(help="Outcome logs: history in, Parquet out.", no_args_is_help=True)

SkipBadRows = Annotated[
    bool, typer.Option("--skip-bad-rows", help="Leave bad rows out, and say how many.")
]


@app.command("import")
def import_log(
    file: Annotated[Path, typer.Argument(help="Outcome log: .parquet, .csv or .jsonl.")],
    *,
    tenant: Annotated[str, typer.Option("--tenant", help="Whose history it is.")] = "default",
    skip_bad_rows: SkipBadRows = False,
    dsn: Dsn = "",
    as_json: JsonFlag = False,
) -> None:
    """Brings history in; a second import of the same file adds nothing.

    Models and arms that the catalog lacks are added to it, with prices as the log shows.

    Example: leadline logs import outcomes.parquet --tenant default
    """
    from router.commands.database import database, operator  # noqa: PLC0415
    from training.log.history import bring_in  # noqa: PLC0415
    from training.log.sources import read  # noqa: PLC0415

    log = read(file, skip_bad_rows=skip_bad_rows)
    with database(dsn) as opened, progress() as shown:
        task = shown.add_task("importing", total=len(log.table))
        tenant_id = opened.tenant_id(tenant)
        found = bring_in(
            opened.dsn,
            tenant_id,
            log.table,
            actor=operator(),
            progress=lambda rows: shown.update(task, advance=rows),
        )
    result = {**left_out(log), **found}
    if as_json:
        print_json(result)
    else:
        say(
            f"{result['new_rows']:,} new of {result['total_rows']:,} rows; left out "
            f"{result['refused_rows']:,} bad and {result['duplicate_rows']:,} repeated rows; "
            f"added {result['added_models']} models and {result['added_arms']} arms"
        )


@app.command("export")
def export_log(
    out: Annotated[Path, typer.Option("--out", help="Parquet file to write.")],
    *,
    tenant: Annotated[str, typer.Option("--tenant", help="Whose; default all.")] = "",
    since: Annotated[
        datetime | None, typer.Option("--since", help="Only what was decided from then on (UTC).")
    ] = None,
    dsn: Dsn = "",
    as_json: JsonFlag = False,
) -> None:
    """Writes every interaction as an outcome log.

    Example: leadline logs export --out outcomes.parquet --since 2026-03-01
    """
    from router.commands.database import database  # noqa: PLC0415
    from router.commands.output import written  # noqa: PLC0415
    from training.log.history import send_out  # noqa: PLC0415

    with database(dsn) as opened, written(out) as file:
        tenant_id = opened.tenant_id(tenant) if tenant else None
        began = since and since.replace(tzinfo=since.tzinfo or UTC)
        rows = send_out(opened.dsn, tenant_id, file, since=began)
    if as_json:
        print_json({"rows": rows, "out": str(out)})
    else:
        say(f"{rows:,} rows in {out}")
