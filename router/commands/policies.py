"""leadline policies: which of the trained policies serves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from router.commands import reach
from router.commands.database import operator
from router.commands.options import (
    Address,
    Comment,
    Dsn,
    JsonFlag,
    SloText,
    TrustedKeys,
    slos,
)
from router.commands.output import print_json, say, show, table

app = typer.Typer(help="Trained policies, and which of them serves.", no_args_is_help=True)

Version = Annotated[int, typer.Argument(help="As 'leadline policies list' shows it.", min=1)]
MOST = 1_000


@app.command("list")
def list_(
    *,
    limit: Annotated[int, typer.Option(help="Most policies to list.", min=1)] = 50,
    dsn: Dsn = "",
    address: Address = "",
    as_json: JsonFlag = False,
) -> None:
    """Lists the policies, newest first.

    Example: leadline policies list
    """
    with reach.policies(dsn, address) as policies:
        records = list(policies.records(limit))
    rows = [
        (each.version, each.state, each.created_at, each.promoted_at, each.bundle_bytes)
        for each in records
    ]
    show(
        records,
        rows,
        ("version", "state", "created", "promoted", "bytes"),
        as_json=as_json,
        empty="no policies; the static fallback serves until 'leadline train' has made one",
    )


@app.command("show")
def show_(
    version: Version, *, dsn: Dsn = "", address: Address = "", as_json: JsonFlag = False
) -> None:
    """Shows one policy with the figures of its training.

    Example: leadline policies show 3
    """
    with reach.policies(dsn, address) as policies:
        record = reach.found(policies.records(MOST), version)
    if as_json:
        print_json(record)
        return
    rows = [
        ("version", record.version),
        ("state", record.state),
        ("created", record.created_at),
        ("promoted", record.promoted_at),
        ("bundle sha256", record.bundle_sha256),
        *_flat(record.summary),
    ]
    table(rows, ("what", "value"))


def _flat(summary: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Each figure in a row of its own, under its full name."""
    for name, value in summary.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name} ")
        else:
            yield f"{before}{name}", "unknown" if value is None else value


@app.command("promote")
def promote(
    version: Version,
    *,
    comment: Comment = "",
    dsn: Dsn = "",
    address: Address = "",
    as_json: JsonFlag = False,
) -> None:
    """Makes a policy the active one; every worker and replica follows within 2 s.

    Example: leadline policies promote 3 --comment "better on long queries"
    """
    with reach.policies(dsn, address) as policies:
        record = policies.promote(version, actor=operator(), comment=comment)
    if as_json:
        print_json(record)
    else:
        say(f"policy {record.version} is {record.state}")


@app.command("rollback")
def rollback(
    *,
    version: Annotated[
        int, typer.Option(help="Fail unless this one is active; 0 is whichever.", min=0)
    ] = 0,
    comment: Comment = "",
    dsn: Dsn = "",
    address: Address = "",
    as_json: JsonFlag = False,
) -> None:
    """Makes the previous policy the active one again; without one the static fallback serves.

    Example: leadline policies rollback --version 3
    """
    with reach.policies(dsn, address) as policies:
        record = policies.rollback(actor=operator(), comment=comment, version=version)
    if as_json:
        print_json(record)
    else:
        say(
            "the static fallback serves" if record is None else f"policy {record.version} is active"
        )


@app.command("explain")
def explain(
    version: Annotated[
        int | None, typer.Argument(help="A registered one, instead of --policy.", min=1)
    ] = None,
    *,
    policy: Annotated[
        Path | None,
        typer.Option("--policy", help="The bundle: a directory or an archive.", exists=True),
    ] = None,
    query: Annotated[str, typer.Option("--query", help="The query's text.")] = "",
    queries: Annotated[
        Path | None,
        typer.Option("--queries", help='JSONL of {"query_id", "query"}.', exists=True),
    ] = None,
    slo: SloText = "{}",
    arm: Annotated[
        str, typer.Option("--arm", help="Key of the arm to hold the picked one against.")
    ] = "",
    trusted_key: TrustedKeys = None,
    dsn: Dsn = "",
    as_json: JsonFlag = False,
) -> None:
    """Says which features, neighbours and limits move a policy's choice for a query.

    The picked arm is held against the next best one. A registered policy decides among the
    arms of the database's catalog, a bundle among its own.

    Example: leadline policies explain --policy bundle/ --query "What is 17 * 23?"
    """
    if (version is None) == (policy is None):
        raise typer.BadParameter("give either a version or --policy", param_hint="VERSION")
    if bool(query) == (queries is not None):
        raise typer.BadParameter("give either --query or --queries", param_hint="--query")
    objectives, many = slos(slo)
    if many:
        raise typer.BadParameter("one slo at a time", param_hint="--slo")
    from router.commands import explained  # noqa: PLC0415
    from router.offline import Asked, Policy  # noqa: PLC0415

    keys = trusted_key or []
    trained = (
        Policy.load(policy, trusted_keys=keys)
        if policy is not None
        else explained.registered(version or 0, keys, dsn)
    )
    if queries is None:
        asked = Asked(query_id=query, text=query)
        explained.explain_one(trained, asked, objectives[0], arm or None, as_json=as_json)
    else:
        explained.explain_file(trained, queries, objectives[0], arm or None, as_json=as_json)
