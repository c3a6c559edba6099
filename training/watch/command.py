"""leadline watch: certifies floors and holds them against outcomes, beside the workers."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.commands.options import Dsn, JsonFlag, duration, settings
from router.commands.output import print_json, say, show
from router.errors import LeadlineError, Unavailable
from training.run.supervised import told, until_stopped

if TYPE_CHECKING:
    from router.settings import Settings
    from router.store.watching import OneWatcher
    from training.canary.judge import Plan
    from training.watch.plan import Watched
    from training.watch.watcher import Turn, Watcher

Every = Annotated[str, typer.Option("--every", help="Time between turns, as 1s or 1m.")]
Once = Annotated[bool, typer.Option("--once", help="Catch up, say how things stand, and end.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How the command watches and what it prints."""

    pause_s: float
    once: bool
    as_json: bool
    quiet: bool


def watch(
    *,
    every: Every = "1s",
    once: Once = False,
    dsn: Dsn = "",
    as_json: JsonFlag = False,
    supervised: Annotated[bool, typer.Option("--supervised", hidden=True)] = False,
) -> None:
    """Certifies accuracy floors from recorded outcomes, and tells when one breaks.

    'leadline serve' starts it by itself. Of several on one database one watches, and the
    others wait to take its place. It may be stopped at any time, by Ctrl-C or SIGTERM.

    Example: leadline watch --every 5s
    """
    manner = Manner(pause_s=_pause_s(every), once=once, as_json=as_json, quiet=supervised)
    if once:
        _run(settings(dsn=dsn), threading.Event(), manner)
        return
    with until_stopped(supervised=supervised) as stop:
        _run(told() if supervised else settings(dsn=dsn), stop, manner)


def _pause_s(every: str) -> float:
    try:
        found = duration(every).total_seconds()
    except typer.BadParameter:
        found = 0.0
    if not found:
        raise typer.BadParameter("write it as 1s, 30s or 5m", param_hint="--every")
    return found


def _run(config: Settings, stop: threading.Event, manner: Manner) -> None:
    from router.commands.database import database  # noqa: PLC0415
    from router.commands.logged import configure_logs  # noqa: PLC0415
    from router.store.watching import OneWatcher  # noqa: PLC0415
    from training.learning.threads import one_thread  # noqa: PLC0415

    configure_logs(config.log_level)
    where = config.dsn.get_secret_value() if config.dsn else ""
    with database(where) as opened, one_thread():
        place = OneWatcher(opened.dsn)
        try:
            if manner.once:
                _catch_up(config, opened.dsn, place, manner)
            while not manner.once and not stop.is_set():
                if place.holds():
                    _stand_watch(config, opened.dsn, place, stop, manner)
                stop.wait(manner.pause_s)
        finally:
            place.close()


def _catch_up(config: Settings, dsn: str, place: OneWatcher, manner: Manner) -> None:
    """Turns until nothing is left to do, then says how things stand."""
    if not place.holds():
        raise Unavailable("another watcher is at work on this database; there is nothing to do")
    with _watcher(config, dsn) as watcher:
        while watcher.turn(datetime.now(UTC)).more:
            pass
        rows = [_row(each) for each in watcher.watched]
    show(
        rows,
        [tuple(row.values()) for row in rows],
        ("tenant", "slo", "state", "outcomes", "coverage", "certificate"),
        as_json=manner.as_json,
        empty="no slo has a floor on its mean accuracy",
    )


def _stand_watch(
    config: Settings, dsn: str, place: OneWatcher, stop: threading.Event, manner: Manner
) -> None:
    """Turns until stopped, or until the place or Postgres is lost."""
    from router.commands.logged import logger  # noqa: PLC0415

    try:
        with _watcher(config, dsn) as watcher:
            logger().info("watching", slos=len(watcher.watched))
            while not stop.is_set() and place.holds():
                turn = watcher.turn(datetime.now(UTC))
                if not manner.quiet:
                    _tell(turn, manner)
                if not turn.more:
                    stop.wait(manner.pause_s)
    except LeadlineError as error:
        logger().warning("the watcher waits", why=error.message)
        place.close()


@contextmanager
def _watcher(config: Settings, dsn: str) -> Iterator[Watcher]:
    from router.commands.logged import logger  # noqa: PLC0415
    from router.trust import trusted_here  # noqa: PLC0415
    from training.watch.plan import Policies, opened  # noqa: PLC0415
    from training.watch.telling import Teller  # noqa: PLC0415
    from training.watch.watcher import Watcher  # noqa: PLC0415
    from training.watch.webhook import Webhook  # noqa: PLC0415

    webhook = None
    if config.webhook_url and config.webhook_secret:
        told = config.webhook_url, config.webhook_secret
        webhook = Webhook(*(each.get_secret_value() for each in told))
    with opened(dsn) as stores:
        policies = Policies(stores, trusted_here(config))
        teller = Teller(webhook, private=config.webhook_private)
        yield Watcher(
            stores,
            policies,
            log=logger(),
            teller=teller,
            canary=_plan(config),
            climb_margin=config.climb_margin,
        )


def _plan(config: Settings) -> Plan:
    from training.canary.bets import Margins  # noqa: PLC0415
    from training.canary.judge import Plan, steps_of  # noqa: PLC0415

    margins = Margins(accuracy=config.canary_accuracy_margin, cost=config.canary_cost_margin)
    return Plan(steps=steps_of(config.canary_steps), margins=margins)


def _row(watched: Watched) -> dict[str, Any]:
    from training.watch.monitoring import kept_of  # noqa: PLC0415

    kept, certificate = kept_of(watched.monitor), watched.certificate
    statement = kept.monitor.statement() if kept else None
    return {
        "tenant": watched.tenant.name,
        "slo": watched.slo.name,
        "state": statement.state if statement else None,
        "outcomes": statement.outcomes if statement else 0,
        "coverage": statement.coverage if statement else None,
        "certificate": certificate.body["message"] if certificate else None,
    }


def _tell(turn: Turn, manner: Manner) -> None:
    """Prints what a turn has done, a line each."""
    for each in turn.certified:
        row = _row(each)
        named = f"{row['tenant']}/{row['slo']}"
        print_json(row) if manner.as_json else say(f"{named}: {row['certificate']}")
    for event in turn.changed:
        named = f"{event['tenant']}/{event['slo']}"
        change = f"{named}: {event['before']} -> {event['state']}"
        print_json(event) if manner.as_json else say(change)
    sys.stdout.flush()
