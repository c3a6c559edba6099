"""leadline policies: which of the trained policies serves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.commands import reach, verdicts
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

if TYPE_CHECKING:
    from router.types import PolicyRecord

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
        (
            *(each.version, each.state, "" if each.share is None else f"{each.share:.0%}"),
            *(each.created_at, each.promoted_at, each.bundle_bytes, _verdict(each)),
        )
        for each in records
    ]
    show(
        records,
        rows,
        ("version", "state", "share", "created", "promoted", "bytes", "canary"),
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
    gate = record.summary.get("gate", {})
    rows = [
        ("version", record.version),
        ("state", record.state),
        ("created", record.created_at),
        ("promoted", record.promoted_at),
        ("bundle sha256", record.bundle_sha256),
        ("share", record.share),
        *_flat(record.canary or {}, "canary "),
        *_flat({**record.summary, "gate": _apart(gate)}),
    ]
    table(rows, ("what", "value"))
    if gate:
        say(verdicts.headline(gate))
    if gate.get("conditions"):
        table(list(verdicts.rows(gate)), verdicts.COLUMNS)


def _apart(gate: Mapping[str, Any]) -> dict[str, Any]:
    """What a gate's verdict says beside its conditions, which have a table of their own."""
    return {name: value for name, value in gate.items() if name != "conditions"}


def _verdict(record: PolicyRecord) -> str:
    """What was last said of it as a canary."""
    found = record.canary or {}
    return f"{found['verdict']}: {found['why']:.60}" if "verdict" in found else ""


def _flat(summary: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Each figure in a row of its own, under its full name."""
    for name, value in summary.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name} ")
        else:
            yield f"{before}{name}", "unknown" if value is None else value


@app.command("canary")
def canary(
    version: Version,
    *,
    share: Annotated[
        str, typer.Option("--share", help="Of the traffic, as 5% or 0.05; it grows by itself.")
    ] = "1%",
    shadow: Annotated[
        bool, typer.Option("--shadow", help="Decide beside the active policy, unserved.")
    ] = False,
    comment: Comment = "",
    dsn: Dsn = "",
    address: Address = "",
    as_json: JsonFlag = False,
) -> None:
    """Tries a policy on a share of the traffic, or changes the canary's share.

    'leadline watch', which 'leadline serve' starts, lets the share grow to 5 %, 25 % and a
    promotion while outcomes show it no worse, and rejects it once they show it worse.

    Example: leadline policies canary 3 --share 5%
    """
    found = 0.0 if shadow else _share(share)
    with reach.policies(dsn, address) as policies:
        record = policies.canary(version, share=found, actor=operator(), comment=comment)
    if as_json:
        print_json(record)
    elif record.share:
        say(f"policy {record.version} decides {record.share:.3g} of the traffic")
    else:
        say(f"policy {record.version} decides beside the active one, unserved")


def _share(text: str) -> float:
    try:
        found = float(text.removesuffix("%")) / (100.0 if text.endswith("%") else 1.0)
    except ValueError:
        found = -1.0
    if not 0.0 < found <= 1.0:
        raise typer.BadParameter("write it as 5% or 0.05", param_hint="--share")
    return found


@app.command("reject")
def reject(
    version: Version,
    *,
    comment: Comment = "",
    dsn: Dsn = "",
    address: Address = "",
    as_json: JsonFlag = False,
) -> None:
    """Ends a canary, whose share goes back to the active policy, or drops a candidate.

    Example: leadline policies reject 3 --comment "slow on Mondays"
    """
    with reach.policies(dsn, address) as policies:
        record = policies.reject(version, actor=operator(), comment=comment)
    if as_json:
        print_json(record)
    else:
        say(f"policy {record.version} is {record.state}")


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
