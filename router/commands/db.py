"""leadline db: the schema, and what leaves it."""

from __future__ import annotations

import typer

from router.commands.archive import archive, expire
from router.commands.database import opened
from router.commands.options import Dsn, JsonFlag, settings
from router.commands.output import print_json, say

app = typer.Typer(help="The database's schema and its archive.", no_args_is_help=True)
app.command("archive")(archive)
app.command("expire")(expire)


@app.command("upgrade")
def upgrade(*, dsn: Dsn = "", as_json: JsonFlag = False) -> None:
    """Brings the database to this version's schema; a second run changes nothing.

    Example: leadline db upgrade --dsn postgresql://localhost/leadline
    """
    from router.store import schema  # noqa: PLC0415

    with opened(settings(dsn=dsn)) as (where, _):
        revision = schema.upgrade(where)
    if as_json:
        print_json({"revision": revision})
    else:
        say(f"the database is at revision {revision}")


@app.command("status")
def status(*, dsn: Dsn = "", as_json: JsonFlag = False) -> None:
    """Says which revision the database is at; fails when that is not this version's.

    Example: leadline db status --json
    """
    from router.store import schema  # noqa: PLC0415

    with opened(settings(dsn=dsn)) as (where, embedded):
        found, needed = schema.current(where), schema.newest()
    place = "embedded" if embedded else "given"
    if as_json:
        print_json({"database": place, "revision": found, "needed": needed})
    else:
        say(f"{place} database at revision {found or 'none'}, needed {needed}")
    if found != needed:
        raise typer.Exit(1)
