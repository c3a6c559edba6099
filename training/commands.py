"""leadline train, and the groups that the training package adds to the command."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.commands import policies
from router.commands.options import Dsn, JsonFlag, duration, settings
from router.commands.output import print_json, progress, say
from training import certificate_commands, log_commands
from training.benchmark.commands import benchmark
from training.compare import commands as compare_commands
from training.log_commands import SkipBadRows
from training.run_commands import training_runs
from training.schedule_command import schedule
from training.shown import left_out, tell, tell_adapted
from training.watch.command import watch

if TYPE_CHECKING:
    from router.commands.logged import Logger
    from router.settings import Settings
    from training.run.room import Options

STEPS, DATABASE_STEPS, ADAPTING_STEPS = 7, 17, 5

LogFile = Annotated[
    Path | None,
    typer.Option("--log", help="Outcome log: .parquet, .csv or .jsonl.", show_default=False),
]
OutDirectory = Annotated[
    Path | None,
    typer.Option("--out", help="Bundle to write; default ./policy with --log.", show_default=False),
]
Adapt = Annotated[
    Path | None,
    typer.Option(
        "--adapt",
        help="Bundle to take --log's new arms into, with no retraining; default --out ./adapted.",
        show_default=False,
    ),
]
Seed = Annotated[
    int, typer.Option("--seed", min=0, max=2**31 - 1, help="Of every split and model.")
]
Holdout = Annotated[
    float, typer.Option("--holdout", min=0.05, max=0.5, help="Share of queries for the figures.")
]
Canary = Annotated[
    bool, typer.Option("--canary/--no-canary", help="Try what passes the gate on some traffic.")
]
Archive = Annotated[
    Path | None,
    typer.Option(
        "--archive", help="Learn from months in this archive too ('leadline db archive')."
    ),
]
Dask = Annotated[
    str,
    typer.Option(
        "--dask",
        help="Grow trees on the Dask cluster there, as tcp://host:8786, or on a 'local' one.",
        envvar="LEADLINE_DASK",
        show_default=False,
    ),
]
Wait = Annotated[
    bool, typer.Option("--wait", help="Wait for a run that is under way, instead of leaving.")
]
ResumeWithin = Annotated[
    str,
    typer.Option("--resume-within", help="How old a run that was broken off may be to go on."),
]
IfDrifted = Annotated[
    bool, typer.Option("--if-drifted", help="Learn only where drift calls for it; else end.")
]


def groups(app: typer.Typer) -> None:
    """Adds the training package's commands."""
    app.command("train")(train)
    app.command("benchmark")(benchmark)
    app.command("watch")(watch)
    app.command("schedule")(schedule)
    app.command("training-runs")(training_runs)
    app.add_typer(log_commands.app, name="logs")
    app.add_typer(certificate_commands.app, name="certificates")
    compare_commands.join(policies.app)


def train(
    *,
    log: LogFile = None,
    out: OutDirectory = None,
    adapt: Adapt = None,
    skip_bad_rows: SkipBadRows = False,
    seed: Seed = 0,
    holdout: Holdout = 0.2,
    canary: Canary = True,
    wait: Wait = False,
    resume_within: ResumeWithin = "12h",
    if_drifted: IfDrifted = False,
    archive: Archive = None,
    dask: Dask = "",
    dsn: Dsn = "",
    as_json: JsonFlag = False,
) -> None:
    """Learns a policy, from the database or from an outcome log with no database at all.

    From the database, where one run at a time learns from all tenants, the policy is
    registered as a candidate. Where it passes the gate it begins as a canary, which 'leadline
    watch' lets grow or ends; else nothing serves it before it is promoted. A run that was
    broken off goes on where it was when the command is given again.

    Examples: leadline train

    leadline train --log outcomes.parquet --out policy

    leadline train --log new_model.parquet --adapt policy --out adapted
    """
    _check(log, out, adapt, if_drifted=if_drifted)
    from training.canary.judge import steps_of  # noqa: PLC0415

    config = settings(dsn=dsn)
    within = _within(resume_within)
    if if_drifted and not _drifted(config, as_json=as_json):
        return
    steps = DATABASE_STEPS if log is None else STEPS if adapt is None else ADAPTING_STEPS
    with _grown(dask), _options(config, seed=seed, holdout=holdout, steps=steps) as told:
        first = steps_of(config.canary_steps)[0]
        options = replace(told, canary=canary, first_share=first.share)
        if log is not None and adapt is not None:
            place = out or Path("adapted")
            found = _adapted(log, adapt, place, options, config=config, skip_bad_rows=skip_bad_rows)
        elif log is None:
            found = _from_database(config, options, wait=wait, resume_within=within, past=archive)
        else:
            found = _from_log(log, out or Path("policy"), options, skip_bad_rows=skip_bad_rows)
    if as_json:
        print_json(found)
    elif adapt is not None:
        tell_adapted(found)
    else:
        tell(found)


def _check(log: Path | None, out: Path | None, adapt: Path | None, *, if_drifted: bool) -> None:
    """Raises BadParameter for options that do not go together."""
    if adapt is not None and log is None:
        raise typer.BadParameter("goes with --log, the outcomes of new arms", param_hint="--adapt")
    if log is None and out is not None:
        raise typer.BadParameter("goes with --log; from the database, policies are registered")
    if log is not None and if_drifted:
        raise typer.BadParameter("is asked of the database", param_hint="--if-drifted")


def _drifted(config: Settings, *, as_json: bool) -> bool:
    """Whether drift calls for learning now; says what it found where it does not."""
    from router.commands.database import database  # noqa: PLC0415
    from training.drift.search import in_short  # noqa: PLC0415
    from training.run.early import drifted  # noqa: PLC0415

    where = config.dsn.get_secret_value() if config.dsn else ""
    with database(where) as opened:
        found = drifted(opened.dsn, now=datetime.now(UTC))
    short = None if found is None else in_short(found.to_mapping())
    _log(config).info("asked for drift", found=short)
    if found is not None and found.retrain:
        return True
    why = "it is not asked now" if found is None else "nothing moved that calls for it"
    print_json({"drift": short, "next": None}) if as_json else say(f"not learning: {why}")
    return False


def _grown(dask: str) -> AbstractContextManager[None]:
    """Where the trees are grown."""
    if not dask:
        return nullcontext()
    from training.learning.distributed import on_dask  # noqa: PLC0415

    return on_dask(dask)


def _within(text: str) -> timedelta:
    try:
        return duration(text)
    except typer.BadParameter as error:
        raise typer.BadParameter(error.message, param_hint="--resume-within") from None


@contextmanager
def _options(config: Settings, *, seed: int, holdout: float, steps: int) -> Iterator[Options]:
    from router.bundle.signing import SigningKey  # noqa: PLC0415
    from router.commands.database import operator  # noqa: PLC0415
    from router.trust import SIGNING_KEY  # noqa: PLC0415
    from training.run.room import Options  # noqa: PLC0415

    key, log = SigningKey.load_or_create(config.state_dir / SIGNING_KEY), _log(config)
    with progress() as shown:
        task = shown.add_task("reading", total=steps)

        def step(name: str) -> None:
            shown.update(task, description=name, advance=1)
            log.info("training", step=name)

        yield Options(seed=seed, share=holdout, key=key, actor=operator(), progress=step)


def _log(config: Settings) -> Logger:
    """Lines for whoever runs it unwatched; on a terminal the progress tells."""
    from router.commands.logged import lines  # noqa: PLC0415

    return lines("error" if sys.stderr.isatty() else config.log_level)


def _from_database(
    config: Settings,
    options: Options,
    *,
    wait: bool,
    resume_within: timedelta,
    past: Path | None,
) -> dict[str, Any]:
    from router.commands.database import database  # noqa: PLC0415
    from training.report.kept import keep_report  # noqa: PLC0415
    from training.report.looked import Looked  # noqa: PLC0415
    from training.run.nightly import RESULTS, Manner, train_from_database  # noqa: PLC0415

    where = config.dsn.get_secret_value() if config.dsn else ""
    directory = config.state_dir / RESULTS
    manner = Manner(directory=directory, resume_within=resume_within, wait=wait, archive=past)
    with database(where) as opened:
        done = train_from_database(opened.dsn, options, manner, now=datetime.now(UTC))
        now = datetime.now(UTC)
        looked = Looked.of(done.summary["gate"], done.looked, done.stages_s)
        report = keep_report(opened.dsn, done.record, config.state_dir, now=now, looked=looked)
    version = done.record.version
    return {
        "version": version,
        "state": done.record.state,
        "bundle_sha256": done.record.bundle_sha256,
        **left_out(done.log),
        **done.summary,
        "report": None if report is None else str(report),
        "next": f"leadline policies promote {version}",
    }


def _from_log(log: Path, out: Path, options: Options, *, skip_bad_rows: bool) -> dict[str, Any]:
    from training.run.offline import train_from_log  # noqa: PLC0415

    done = train_from_log(log, out, options, skip_bad_rows=skip_bad_rows)
    return {
        "out": str(out),
        "signing_key": options.key.public_key.hex(),
        **left_out(done.log),
        **done.policy.summary,
        "next": f"leadline decide --policy {out} --queries FILE.jsonl --slo '{{}}' --out -",
    }


def _adapted(
    log: Path, base: Path, out: Path, options: Options, *, config: Settings, skip_bad_rows: bool
) -> dict[str, Any]:
    from router.bundle.signing import trusted_keys  # noqa: PLC0415
    from training.run.offline import adapt_from_log  # noqa: PLC0415

    trusted = trusted_keys(config.trusted_keys, options.key)
    done = adapt_from_log(log, base, out, options, trusted=trusted, skip_bad_rows=skip_bad_rows)
    return {
        "out": str(out),
        "signing_key": options.key.public_key.hex(),
        **left_out(done.log),
        **done.policy.summary,
        "next": f"leadline decide --policy {out} --queries FILE.jsonl --slo '{{}}' --out -",
    }
