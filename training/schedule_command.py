"""leadline schedule: learns every night, in a process that keeps the time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.commands.options import Dsn, settings, time_of_day
from training.run.supervised import told, until_stopped

if TYPE_CHECKING:
    from datetime import tzinfo

    from router.commands.logged import Logger
    from router.settings import Settings

_LEADLINE = (sys.executable, "-c", "from router.cli import main; main()")
TRAIN = (*_LEADLINE, "train", "--wait", "--json")
EARLY = (*_LEADLINE, "train", "--if-drifted", "--json")

EARLY_EVERY_S = 3600
"""How often it is asked whether drift calls for learning before the night."""

LATE_S = 23 * 3600
"""A run that was missed, as by a machine asleep, is made up for once unless the next is near."""

_BEAT_S = 30
_END_S = 10.0

At = Annotated[str, typer.Option("--at", help="Time of day, as 03:00.")]
Early = Annotated[
    bool, typer.Option("--early/--no-early", help="Learn before the night where drift calls.")
]
Timezone = Annotated[
    str, typer.Option("--timezone", help="Of that time, as Europe/Berlin; default the machine's.")
]


def schedule(
    *,
    at: At = "03:00",
    timezone: Timezone = "",
    early: Early = True,
    dsn: Dsn = "",
    supervised: Annotated[bool, typer.Option("--supervised", hidden=True)] = False,
) -> None:
    """Runs 'leadline train' every day at that time, until Ctrl-C or SIGTERM.

    Every hour it asks whether what moved since the active policy was trained calls for a
    run before the night. A run that fails is told in the log and by 'leadline
    training-runs'; the next night's begins all the same. 'leadline serve --train-at 03:00'
    keeps time beside the workers.

    Example: leadline schedule --at 03:00 --timezone Europe/Berlin
    """
    hour, minute, zone = *time_of_day(at, "--at"), _zone(timezone)
    with until_stopped(supervised=supervised):
        config = told() if supervised else settings(dsn=dsn)
        Nights(config).keep(daily(hour, minute, zone), early=early)


def _zone(name: str) -> tzinfo | None:
    from zoneinfo import ZoneInfo  # noqa: PLC0415

    try:
        return ZoneInfo(name) if name else None
    except (OSError, ValueError, KeyError):
        raise typer.BadParameter(
            f"{name!r:.40} is no time zone; write it as Europe/Berlin", param_hint="--timezone"
        ) from None


def daily(hour: int, minute: int, zone: tzinfo | None) -> Any:
    """APScheduler's trigger of every day at that time, whatever the clocks are put to."""
    from apscheduler.triggers.cron import CronTrigger  # noqa: PLC0415

    return CronTrigger(hour=hour, minute=minute, timezone=zone)


class Nights:
    """Keeps the time and runs `leadline train` as a process of its own, one at a time."""

    def __init__(self, config: Settings) -> None:
        from router.commands.logged import lines  # noqa: PLC0415

        self._log: Logger = lines(config.log_level)
        self._environment = {**os.environ, **_told_by_environment(config)}
        self._running: subprocess.Popen[bytes] | None = None

    def keep(self, trigger: Any, *, early: bool = False) -> None:
        """Runs whenever the trigger of APScheduler says, until an exception ends it.

        With `early` it also asks every hour whether drift calls for a run.
        """
        from apscheduler.schedulers.blocking import BlockingScheduler  # noqa: PLC0415

        scheduler = BlockingScheduler(job_defaults={"coalesce": True, "max_instances": 1})
        scheduler.add_job(self.night, trigger, misfire_grace_time=LATE_S)
        if early:
            scheduler.add_job(self.early, "interval", seconds=EARLY_EVERY_S)
        # The clock that waits stands still while the machine sleeps, so it wakes by itself.
        scheduler.add_job(int, "interval", seconds=_BEAT_S, misfire_grace_time=None)
        self._log.info("scheduled", when=str(trigger))
        try:
            scheduler.start()
        finally:
            self._end()

    def night(self) -> None:
        """One run, whatever comes of it."""
        self._run(TRAIN)

    def early(self) -> None:
        """A run where drift calls for one, unless one is under way."""
        if self._running is None or self._running.poll() is not None:
            self._run(EARLY)

    def _run(self, command: Sequence[str]) -> None:
        started = time.monotonic()
        self._log.info("learning begins", early=command is EARLY)
        null = subprocess.DEVNULL
        with subprocess.Popen(command, env=self._environment, stdin=null, stdout=null) as running:
            self._running = running
            status = running.wait()
        told = self._log.info if status == 0 else self._log.error
        told("learning ended", status=status, seconds=round(time.monotonic() - started, 1))

    def _end(self) -> None:
        """Ends the run that is under way; the next one takes it up."""
        running = self._running
        if running is None or running.poll() is not None:
            return
        running.terminate()
        try:
            running.wait(_END_S)
        except subprocess.TimeoutExpired:
            running.kill()


def _told_by_environment(config: Settings) -> Mapping[str, str]:
    """What `leadline train` reads from its environment, where secrets are nobody else's."""
    told = {"LEADLINE_STATE_DIR": str(config.state_dir), "LEADLINE_LOG_LEVEL": config.log_level}
    if config.dsn is not None:
        told["LEADLINE_DSN"] = config.dsn.get_secret_value()
    return told
