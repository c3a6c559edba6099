"""leadline tenants: who pays and sets slos."""

from __future__ import annotations

from typing import Annotated

import typer

from router.commands.database import database, operator
from router.commands.options import Dsn, JsonFlag
from router.commands.output import print_json, say, show

app = typer.Typer(help="Tenants.", no_args_is_help=True)


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="A plain name, as acme.")],
    *,
    dsn: Dsn = "",
    as_json: JsonFlag = False,
) -> None:
    """Creates a tenant; give it a key with 'leadline keys create'.

    Example: leadline tenants create acme
    """
    from router.store.tenants import PostgresTenants  # noqa: PLC0415

    with database(dsn) as open_database:
        tenant = PostgresTenants(open_database.admin).create(name, actor=operator())
    if as_json:
        print_json(tenant)
    else:
        say(f"tenant {tenant.name} ({tenant.tenant_id})")


@app.command("list")
def list_(*, dsn: Dsn = "", as_json: JsonFlag = False) -> None:
    """Lists the tenants.

    Example: leadline tenants list --json
    """
    from router.store.tenants import PostgresTenants  # noqa: PLC0415

    with database(dsn) as open_database:
        tenants = list(PostgresTenants(open_database.router).tenants())
    rows = [(each.name, each.tenant_id, each.created_at) for each in tenants]
    show(
        tenants,
        rows,
        ("name", "tenant id", "created"),
        as_json=as_json,
        empty="no tenants; create one with 'leadline tenants create NAME'",
    )
