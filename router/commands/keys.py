"""leadline keys: API keys of a tenant."""

from __future__ import annotations

from typing import Annotated

import typer

from router.commands.database import database, operator
from router.commands.options import Dsn, JsonFlag, usage
from router.commands.output import print_json, say, show

app = typer.Typer(help="API keys.", no_args_is_help=True)

Tenant = Annotated[str, typer.Argument(help="The tenant's name.")]


@app.command("create")
def create(
    tenant: Tenant,
    *,
    role: Annotated[
        str, typer.Option(help="caller, admin (+ slos) or operator (+ all).")
    ] = "caller",
    dsn: Dsn = "",
    as_json: JsonFlag = False,
) -> None:
    """Creates a key and shows it, this once.

    Example: leadline keys create acme --role admin
    """
    from router.store.tenants import PostgresTenants  # noqa: PLC0415
    from router.types import Role  # noqa: PLC0415

    with usage("--role"):
        held = Role(role)
    with database(dsn) as open_database:
        key, text = PostgresTenants(open_database.admin).create_key(tenant, held, actor=operator())
    if as_json:
        print_json({"key_id": key.key_id, "tenant": key.tenant, "role": key.role, "key": text})
    else:
        say(f"key {key.key_id} of {key.tenant}, role {key.role}; keep it, it is shown this once:")
        say(text)


@app.command("list")
def list_(tenant: Tenant, *, dsn: Dsn = "", as_json: JsonFlag = False) -> None:
    """Lists a tenant's keys without their secrets, newest first.

    Example: leadline keys list acme
    """
    from router.store.tenants import PostgresTenants  # noqa: PLC0415

    with database(dsn) as open_database:
        keys = list(PostgresTenants(open_database.router).keys(tenant))
    rows = [(each.key_id, each.role, each.created_at, each.revoked_at) for each in keys]
    show(keys, rows, ("key id", "role", "created", "revoked"), as_json=as_json, empty="no keys")


@app.command("revoke")
def revoke(
    tenant: Tenant,
    key_id: Annotated[str, typer.Argument(help="As 'leadline keys list' shows it.")],
    *,
    dsn: Dsn = "",
    as_json: JsonFlag = False,
) -> None:
    """Revokes a key; every worker follows within 2 s. A second time changes nothing.

    Example: leadline keys revoke acme 3f9a1c
    """
    from router.store.tenants import PostgresTenants  # noqa: PLC0415

    with database(dsn) as open_database:
        PostgresTenants(open_database.admin).revoke_key(tenant, key_id, actor=operator())
    if as_json:
        print_json({"key_id": key_id, "tenant": tenant, "revoked": True})
    else:
        say(f"key {key_id} of {tenant} is revoked")
