"""leadline demo."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from router.commands.options import JsonFlag

INTERRUPTED = 130  # not typer.Exit: the line that says so is on the screen already


def groups(app: typer.Typer) -> None:
    """Adds the simulation's command."""
    app.command("demo")(demo)


def demo(
    *,
    directory: Annotated[
        Path, typer.Option("--dir", help="Where it keeps its files; a new directory.")
    ] = Path("leadline-demo"),
    explore: Annotated[
        int, typer.Option("--questions", min=60, max=20_000, help="Questions to explore with.")
    ] = 1_500,
    then: Annotated[
        int, typer.Option("--then", min=10, max=20_000, help="Unseen questions to route then.")
    ] = 500,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**31 - 1)] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Runs the whole loop on this machine, with simulated models, in about a minute.

    Routes, learns from the outcomes, promotes what it learnt, routes again, and compares.
    """
    from router.simulation.demo_figures import Plan  # noqa: PLC0415
    from router.simulation.demo_place import prepared  # noqa: PLC0415
    from router.simulation.demo_run import perform  # noqa: PLC0415

    with prepared(directory) as place:
        plan = Plan(explore=explore, then=then, seed=seed)
        if not perform(plan, place, as_json=as_json):
            sys.exit(INTERRUPTED)
