"""leadline policies compare: two policies on the same interactions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from router.commands.options import Dsn, JsonFlag, TrustedKeys, slos
from router.commands.output import print_json, say, written
from training.log_commands import SkipBadRows

if TYPE_CHECKING:
    from training.compare.comparison import Compared
    from training.compare.shown import Sides
    from training.compare.sources import Wanted

NAME = "compare"


def join(policies: typer.Typer) -> None:
    """Adds the command to the group of policies, once."""
    if all(each.name != NAME for each in policies.registered_commands):
        policies.command(NAME)(compare)


def compare(
    one: Annotated[str, typer.Argument(metavar="A", help="A version, or a bundle's path.")],
    other: Annotated[str, typer.Argument(metavar="B", help="What to hold against it.")],
    *,
    log: Annotated[
        Path | None,
        typer.Option("--log", help="Outcome log to compare on; default: the database's newest."),
    ] = None,
    slo: Annotated[
        str, typer.Option("--slo", help="With --log: one slo as JSON, an array, or @FILE.")
    ] = "{}",
    held_out: Annotated[
        bool, typer.Option("--held-out", help="Neither policy has learnt from the log.")
    ] = False,
    days: Annotated[
        int, typer.Option("--days", min=1, help="Without --log: how far back to look.")
    ] = 30,
    most: Annotated[
        int, typer.Option("--most", min=100, help="Most interactions, the newest first.")
    ] = 20_000,
    page: Annotated[
        Path | None, typer.Option("--html", help="Write it as a page, too.", show_default=False)
    ] = None,
    trusted_key: TrustedKeys = None,
    skip_bad_rows: SkipBadRows = False,
    dsn: Dsn = "",
    as_json: JsonFlag = False,
) -> None:
    """Says for which interactions two policies decide otherwise, and what that brings.

    Differences are measured on interactions that neither has learnt from: by outcomes of
    every arm where the log has them, or else doubly robust by propensities; where they
    cannot tell, it says why. Decisions are as with no certificate and unspent budgets.

    Examples: leadline policies compare 3 4

    leadline policies compare old/ new/ --log outcomes.parquet --slo '{"min_accuracy": 0.8}'
    """
    objectives, _ = slos(slo)
    if log is None and slo != "{}":
        raise typer.BadParameter("goes with --log; decisions have their own", param_hint="--slo")
    from training.compare import shown  # noqa: PLC0415
    from training.compare.sources import Wanted  # noqa: PLC0415

    wanted = Wanted(
        policies=(one, other),
        log=log,
        slos=objectives,
        since=datetime.now(UTC) - timedelta(days=days),
        most=most,
        held_out=held_out,
        skip_bad_rows=skip_bad_rows,
        trusted_keys=tuple(trusted_key or ()),
    )
    found, sides = _compared(wanted, dsn)
    if page is not None:
        with written(page) as file:
            file.write(shown.page(found, sides).encode())
    if as_json:
        print_json(shown.to_mapping(found, sides))
        return
    shown.tell(found, sides)
    if page is not None and str(page) != "-":
        say(f"page: {page}")


def _compared(wanted: Wanted, dsn: str) -> tuple[tuple[Compared, ...], Sides]:
    from training.compare.comparison import compared  # noqa: PLC0415
    from training.compare.shown import Sides  # noqa: PLC0415
    from training.compare.sources import from_database, from_file, policy, reaching  # noqa: PLC0415

    with reaching(dsn) as reach:
        one, other = (policy(each, reach, wanted.trusted_keys) for each in wanted.policies)
        both = one.policy, other.policy
        if wanted.log is None:
            found, said = from_database(reach(), both, wanted, now=datetime.now(UTC))
        else:
            found, said = from_file(wanted.log, both, wanted)
    sides = Sides(one=one.name, other=other.name, source=said, caution=found.caution)
    return compared(*both, found), sides
