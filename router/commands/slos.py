"""leadline slos: a tenant's versioned objectives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from router.commands import reach
from router.commands.database import operator
from router.commands.options import Address, Dsn, JsonFlag, TenantName, duration, usage
from router.commands.output import print_json, say, show

if TYPE_CHECKING:
    from router.clients import DryRun
    from router.slo import Slo

app = typer.Typer(help="Versioned objectives of a tenant.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The slo's name.")]


@app.command("list")
def list_(
    *,
    tenant: TenantName = "default",
    dsn: Dsn = "",
    address: Address = "",
    as_json: JsonFlag = False,
) -> None:
    """Lists the newest version of every slo.

    Example: leadline slos list --tenant acme
    """
    with reach.slos(tenant, dsn, address) as slos:
        current = list(slos.current())
    rows = [(each.name, each.version, _bounds(each)) for each in current]
    show(
        [each.to_mapping() for each in current],
        rows,
        ("name", "version", "bounds"),
        as_json=as_json,
        empty="no slos; set one with 'leadline slos set default {\"min_accuracy\": 0.8}'",
    )


@app.command("show")
def show_(
    name: Name = "default",
    *,
    version: Annotated[int, typer.Option(help="0 is the newest.")] = 0,
    tenant: TenantName = "default",
    dsn: Dsn = "",
    address: Address = "",
    as_json: JsonFlag = False,
) -> None:
    """Shows one slo.

    Example: leadline slos show chat --version 2
    """
    with reach.slos(tenant, dsn, address) as slos:
        slo = slos.get(name, version)
    _print(slo, as_json=as_json)


@app.command("set")
def set_(
    name: Name,
    body: Annotated[str, typer.Argument(help="JSON, in the keys of --slo.")],
    *,
    base_version: Annotated[
        int | None, typer.Option(help="Fail unless this is the newest version; 0: none yet.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing; say what it would have done.")
    ] = False,
    since: Annotated[
        str, typer.Option(help="With --dry-run: how far back to look, as 24h or 7d.")
    ] = "7d",
    tenant: TenantName = "default",
    dsn: Dsn = "",
    address: Address = "",
    as_json: JsonFlag = False,
) -> None:
    """Writes the next version of an slo; every worker follows within 2 s.

    With --dry-run it is held against the decisions of the last 7 days instead. A name that
    the catalog does not have is a warning, since it may come later.

    Example: leadline slos set chat '{"min_accuracy": 0.85, "max_latency_s": 4}' --dry-run
    """
    from dataclasses import replace  # noqa: PLC0415

    from router.slo import Slo  # noqa: PLC0415

    window = duration(since)
    with usage("BODY"):
        wanted = replace(Slo.from_json(body), name=name)
    with reach.slos(tenant, dsn, address) as slos:
        if dry_run:
            _show(slos.dry_run(wanted, window), since, as_json=as_json)
            return
        slo, warnings = slos.put(wanted, base_version=base_version, actor=operator())
    if as_json:
        print_json({**slo.to_mapping(), "warnings": warnings})
        return
    _print(slo, as_json=False)
    for text in warnings:
        typer.echo(f"leadline: warning: {text}", err=True)


def _show(found: DryRun, since: str, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    from router.commands.rehearsed import show  # noqa: PLC0415

    show(found, since)


def _print(slo: Slo, *, as_json: bool) -> None:
    if as_json:
        print_json(slo.to_mapping())
    else:
        say(f"{slo.name} version {slo.version}: {_bounds(slo)}")


def _bounds(slo: Slo) -> str:
    said = slo.to_mapping()
    usual = type(slo)().to_mapping()
    named = [
        f"{name} {value}"
        for name, value in said.items()
        if name not in {"name", "version"} and value != usual.get(name)
    ]
    return ", ".join(named) or "no bounds"
