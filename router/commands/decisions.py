"""leadline decisions: what was decided, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

import typer

from router.commands.database import Database, database
from router.commands.options import Address, Dsn, JsonFlag, TenantName, duration, usage
from router.commands.output import print_json, say, show, table
from router.errors import NotFound

app = typer.Typer(help="Logged decisions.", no_args_is_help=True)


@app.command("show")
def show_(
    decision_id: Annotated[str, typer.Argument(help="The decision's id.")],
    *,
    tenant: TenantName = "default",
    dsn: Dsn = "",
    address: Address = "",
    as_json: JsonFlag = False,
) -> None:
    """Shows a decision with the outcomes reported so far.

    Example: leadline decisions show 0198c0de-0000-7000-8000-000000000000 --tenant acme
    """
    with usage("DECISION_ID"):
        wanted = UUID(decision_id)
    found = _remote(wanted, address) if address else _stored(wanted, tenant, dsn)
    if as_json:
        print_json(found)
        return
    decision = found["decision"]
    _why(decision)
    shown = [(name, _short(value)) for name, value in decision.items() if name != "reasons"]
    table(shown, ("what", "value"))
    outcomes = found["outcomes"]
    if outcomes:
        columns = ("attempt", "score", "source", "cost_usd", "latency_s", "error", "occurred_at")
        table([[each.get(name) for name in columns] for each in outcomes], columns)


def _why(decision: Mapping[str, Any]) -> None:
    """Says in sentences why the arm was picked."""
    say(f"{decision.get('arm') or decision.get('chosen')}: {decision['reason']}")
    for reason in decision.get("reasons") or ():
        bound = "" if reason.get("bound") is None else f" {reason['bound']:g}"
        binding = ", and one of them ranks above the pick" if reason.get("binding") else ""
        if reason.get("left_out"):
            say(f"  {reason['limit']}{bound} left out {reason['left_out']} arms{binding}")
        else:
            say(f"  {reason['limit']}: {reason.get('note') or bound}")


@app.command("unscored")
def unscored(
    *,
    since: Annotated[str, typer.Option(help="How far back, such as 24h or 7d.")] = "7d",
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=10_000)] = 20,
    tenant: TenantName = "default",
    dsn: Dsn = "",
    as_json: JsonFlag = False,
) -> None:
    """Lists decisions that no outcome scores, in the order in which to label them.

    Those whose queries are least like what the policy has learnt from come first.

    Example: leadline decisions unscored --since 24h --limit 50
    """
    from datetime import UTC, datetime  # noqa: PLC0415

    from router.store.decisions import PostgresLog  # noqa: PLC0415

    start = datetime.now(UTC) - duration(since)
    with database(dsn) as opened:
        log = PostgresLog(opened.router)
        found = log.unscored(opened.tenant_id(tenant), since=start, limit=limit)
    columns = ("decision_id", "novelty", "arm", "occurred_at", "query")
    show(
        [{name: row[name] for name in columns} for row in found],
        [[_short(row[name]) for name in columns] for row in found],
        columns,
        as_json=as_json,
        empty="every decision has its score",
    )


@app.command("replay")
def replay(
    decision_id: Annotated[str, typer.Argument(help="The decision's id.")],
    *,
    tenant: TenantName = "default",
    dsn: Dsn = "",
    as_json: JsonFlag = False,
) -> None:
    """Derives a decision again from the store, and says whether it is the same bit for bit.

    Its policy, its slo's version, the catalog of its time and the conditions in its row make
    it again; fails where it comes out another.

    Example: leadline decisions replay 0198c0de-0000-7000-8000-000000000000 --tenant acme
    """
    with usage("DECISION_ID"):
        wanted = UUID(decision_id)
    changed = _rederived(wanted, tenant, dsn)
    if as_json:
        print_json({"decision_id": decision_id, "same": not changed, "differences": changed})
    elif changed:
        table([[_short(each[name]) for name in _SIDES] for each in changed], _SIDES)
    else:
        say("the same, bit for bit")
    if changed:
        raise typer.Exit(1)


_SIDES = ("what", "logged", "derived")


def _rederived(decision_id: UUID, tenant: str, dsn: str) -> list[dict[str, Any]]:
    """Where the decision that is derived again is not the one that was logged."""
    from router.commands.explained import of  # noqa: PLC0415
    from router.policy.policy import static_policy  # noqa: PLC0415
    from router.serving.rederiving import differences, rederive  # noqa: PLC0415
    from router.slo import Slo  # noqa: PLC0415
    from router.store.catalog import PostgresCatalog  # noqa: PLC0415
    from router.store.slos import PostgresSlos  # noqa: PLC0415

    with database(dsn) as opened:
        tenant_id = opened.tenant_id(tenant)
        row = _row(opened, tenant_id, tenant, decision_id)
        catalog = PostgresCatalog(opened.admin).at(row["occurred_at"])
        name, version = row["slo_name"], row["slo_version"]
        slo = PostgresSlos(opened.router).get(tenant_id, name, version) if version else Slo()
        learned = row["policy_version"] > 0
        policy = of(opened, row["policy_version"], catalog).bound if learned else None
    decision = rederive(row, slo, policy or static_policy(catalog))
    return [dict(zip(_SIDES, each, strict=True)) for each in differences(row, decision)]


def _stored(decision_id: UUID, tenant: str, dsn: str) -> dict[str, Any]:
    from router.store.decisions import PostgresLog  # noqa: PLC0415

    with database(dsn) as opened:
        tenant_id = opened.tenant_id(tenant)
        decision = _row(opened, tenant_id, tenant, decision_id)
        outcomes = PostgresLog(opened.router).outcomes(tenant_id, decision_id)
    return {"decision": dict(decision), "outcomes": [dict(each) for each in outcomes]}


def _row(opened: Database, tenant_id: UUID, tenant: str, decision_id: UUID) -> Mapping[str, Any]:
    """The decision's row. Raises NotFound."""
    from router.store.decisions import PostgresLog  # noqa: PLC0415

    found = PostgresLog(opened.router).decision(tenant_id, decision_id)
    if found is None:
        raise NotFound(
            f"tenant {tenant!r} has no decision {decision_id} here", reason="DECISION_NOT_FOUND"
        )
    return found


def _remote(decision_id: UUID, address: str) -> dict[str, Any]:
    from dataclasses import asdict  # noqa: PLC0415

    from router.clients import Client  # noqa: PLC0415

    with Client(address, timeout_s=5.0) as client:
        record = client.get_decision(decision_id)
    decision = asdict(record)
    outcomes = decision.pop("outcomes")
    return {"decision": decision.pop("decision") | decision, "outcomes": outcomes}


def _short(value: Any) -> str:
    from router.commands.output import to_json  # noqa: PLC0415

    text = "-" if value is None else str(value)
    if isinstance(value, Mapping | list | tuple):
        text = to_json(value).decode()
    return text if len(text) <= 160 else f"{text[:159]}…"
