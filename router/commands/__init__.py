"""The command's groups that come with the router; each imports what it needs when it runs."""

from __future__ import annotations

import typer

from router.commands import (
    catalog,
    db,
    decide,
    decisions,
    keys,
    policies,
    replay,
    serve,
    slos,
    tenants,
)


def groups(app: typer.Typer) -> None:
    """Adds the router's commands."""
    app.command("serve")(serve.serve)
    app.command("decide")(decide.decide)
    app.command("replay")(replay.replay)
    app.add_typer(db.app, name="db")
    app.add_typer(tenants.app, name="tenants")
    app.add_typer(keys.app, name="keys")
    app.add_typer(slos.app, name="slos")
    app.add_typer(catalog.models, name="models")
    app.add_typer(catalog.arms, name="arms")
    app.add_typer(policies.app, name="policies")
    app.add_typer(decisions.app, name="decisions")
