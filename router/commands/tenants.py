"""leadline tenants: who pays and sets slos."""

from __future__ import annotations

from typing import Annotated

import typer

from router.commands.database import database, operator
from router.commands.options import Dsn, JsonFlag, settings
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
    rows = [(each.name, each.tenant_id, each.created_at, each.retention_days) for each in tenants]
    show(
        tenants,
        rows,
        ("name", "tenant id", "created", "kept days"),
        as_json=as_json,
        empty="no tenants; create one with 'leadline tenants create NAME'",
    )


@app.command("set-retention")
def set_retention(
    name: Annotated[str, typer.Argument(help="The tenant.")],
    days: Annotated[
        int | None, typer.Argument(help="How many days; none: for ever.", show_default=False)
    ] = None,
    *,
    dsn: Dsn = "",
    as_json: JsonFlag = False,
) -> None:
    """Says for how many days a tenant's rows are kept; 'leadline db expire' erases the others.

    Example: leadline tenants set-retention acme 365
    """
    from router.store import retention  # noqa: PLC0415

    with database(dsn) as opened:
        retention.set_retention(opened.admin, name, days, actor=operator())
    if as_json:
        print_json({"tenant": name, "retention_days": days})
    else:
        say(f"{name} keeps its rows {'for ever' if days is None else f'for {days:,} days'}")


@app.command("set-webhook")
def set_webhook(
    name: Annotated[str, typer.Argument(help="The tenant.")],
    url: Annotated[str, typer.Argument(help="https:// address that takes POSTs of JSON.")],
    *,
    dsn: Dsn = "",
    as_json: JsonFlag = False,
) -> None:
    """Tells a tenant's own system when the state of one of its slos changes.

    Prints the secret that signs what is sent, this once; setting it again makes a new one.

    Example: leadline tenants set-webhook acme https://hooks.acme.example/leadline
    """
    from router.store.webhooks import PostgresWebhooks  # noqa: PLC0415
    from router.webhooks import origin  # noqa: PLC0415

    with database(dsn) as opened:
        made = PostgresWebhooks(opened.admin).put(
            opened.tenant_id(name), url, actor=operator(), private=settings().webhook_private
        )
    if as_json:
        print_json({"tenant": name, "origin": origin(made.url), "secret": made.secret})
    else:
        say(f"{name} is told at {origin(made.url)}; the secret, which is not shown again:")
        say(made.secret)


@app.command("remove-webhook")
def remove_webhook(
    name: Annotated[str, typer.Argument(help="The tenant.")],
    *,
    dsn: Dsn = "",
    as_json: JsonFlag = False,
) -> None:
    """Removes a tenant's own webhook; LEADLINE_WEBHOOK_URL, where set, is told instead.

    Example: leadline tenants remove-webhook acme
    """
    from router.store.webhooks import PostgresWebhooks  # noqa: PLC0415

    with database(dsn) as opened:
        removed = PostgresWebhooks(opened.admin).remove(opened.tenant_id(name), actor=operator())
    if as_json:
        print_json({"tenant": name, "removed": removed})
    else:
        say(f"{name} has no webhook of its own" + (" any more" if removed else ""))


@app.command("webhooks")
def list_webhooks(*, dsn: Dsn = "", as_json: JsonFlag = False) -> None:
    """Lists tenants' own webhooks and what came of them, without paths and secrets.

    Example: leadline tenants webhooks
    """
    from router.store.webhooks import PostgresWebhooks  # noqa: PLC0415

    with database(dsn) as opened:
        found = list(PostgresWebhooks(opened.admin).shown())
    names = ("tenant", "origin", "delivered", "failed", "failed_in_a_row", "last_failure")
    rows = [[getattr(each, column) for column in names] for each in found]
    columns = [column.replace("_", " ") for column in names]
    show(found, rows, columns, as_json=as_json, empty="no tenant has a webhook of its own")


@app.command("alarms")
def list_alarms(*, dsn: Dsn = "", as_json: JsonFlag = False) -> None:
    """Lists slos whose decisions go to dearer arms than is usual for them, and since when.

    Example: leadline tenants alarms
    """
    from router.store.alarms import PostgresAlarms  # noqa: PLC0415

    with database(dsn) as opened:
        found = list(PostgresAlarms(opened.admin).ringing())
    figures = ("usual", "bound", "recent")
    shown = [
        {"tenant": tenant, "slo": each.slo_name, "since": each.since}
        | {name: each.body.get(name) for name in figures}
        for tenant, each in found
    ]
    rows = [tuple(each.values()) for each in shown]
    columns = ("tenant", "slo", "rings since", *(f"{name} climb" for name in figures))
    show(shown, rows, columns, as_json=as_json, empty="no alarm rings")
