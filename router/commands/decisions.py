"""leadline decisions: what was decided, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from router.commands.database import database
from router.commands.options import Address, Dsn, JsonFlag, TenantName, usage
from router.commands.output import print_json, table
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
    from uuid import UUID  # noqa: PLC0415

    with usage("DECISION_ID"):
        wanted = UUID(decision_id)
    found = _remote(wanted, address) if address else _stored(wanted, tenant, dsn)
    if as_json:
        print_json(found)
        return
    table([(name, _short(value)) for name, value in found["decision"].items()], ("what", "value"))
    outcomes = found["outcomes"]
    if outcomes:
        columns = ("attempt", "score", "source", "cost_usd", "latency_s", "error", "occurred_at")
        table([[each.get(name) for name in columns] for each in outcomes], columns)


def _stored(decision_id: Any, tenant: str, dsn: str) -> dict[str, Any]:
    from router.store.decisions import PostgresLog  # noqa: PLC0415

    with database(dsn) as opened:
        tenant_id = opened.tenant_id(tenant)
        log = PostgresLog(opened.router)
        decision = log.decision(tenant_id, decision_id)
        outcomes = log.outcomes(tenant_id, decision_id)
    if decision is None:
        raise NotFound(
            f"tenant {tenant!r} has no decision {decision_id} here", reason="DECISION_NOT_FOUND"
        )
    return {"decision": dict(decision), "outcomes": [dict(each) for each in outcomes]}


def _remote(decision_id: Any, address: str) -> dict[str, Any]:
    from dataclasses import asdict  # noqa: PLC0415

    from router.clients import Client  # noqa: PLC0415

    with Client(address, timeout_s=5.0) as client:
        record = client.get_decision(decision_id)
    decision = asdict(record)
    outcomes = decision.pop("outcomes")
    return {"decision": decision.pop("decision") | decision, "outcomes": outcomes}


def _short(value: Any) -> str:
    if isinstance(value, Mapping | list | tuple):
        from router.commands.output import to_json  # noqa: PLC0415

        text = to_json(value).decode()
        return text if len(text) <= 160 else f"{text[:159]}…"
    return "-" if value is None else str(value)
