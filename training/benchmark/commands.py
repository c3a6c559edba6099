"""leadline benchmark: Leadline against its rivals on outcome logs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.commands.options import JsonFlag
from router.commands.output import print_json, progress, say, table, to_json, written
from training.log_commands import SkipBadRows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyarrow import Table

    from router.types import Model
    from training.benchmark.bench import Plan
    from training.benchmark.results import Foretold, Results, Sampled
    from training.benchmark.splits import Split

JSON, REPORT = "benchmark.json", "report.html"

TrainFile = Annotated[
    Path | None,
    typer.Option(
        "--train", help="Outcome log to learn from; goes with --test.", show_default=False
    ),
]
TestFile = Annotated[
    Path | None,
    typer.Option("--test", help="Full-information log to judge on.", show_default=False),
]
LogFile = Annotated[
    Path | None,
    typer.Option("--log", help="One log, split by the hash of the text.", show_default=False),
]
OutDirectory = Annotated[
    Path, typer.Option("--out", help=f"Directory for {JSON} and {REPORT}; made if need be.")
]
Holdout = Annotated[
    float,
    typer.Option("--holdout", min=0.05, max=0.9, help="Share of --log's queries to judge on."),
]
Folds = Annotated[
    int, typer.Option("--folds", min=0, max=20, help="Cross-validate --log instead; 0 does not.")
]
Seed = Annotated[
    int, typer.Option("--seed", min=0, max=2**20, help="Of splits, models and resamples.")
]
Ways = Annotated[
    str,
    typer.Option(
        "--ways", help="Which ways, by comma: as knn,leadline; default all.", show_default=False
    ),
]
Curve = Annotated[
    bool, typer.Option("--learning-curve", help="Also learn from 100, 200, 400 ... queries.")
]
Ablation = Annotated[bool, typer.Option("--ablation", help="Also learn without each part.")]
NewArms = Annotated[
    bool,
    typer.Option("--new-arms", help="Also leave each arm out, then take it in from few outcomes."),
]
Models = Annotated[
    Path | None,
    typer.Option(
        "--models",
        help="What 'leadline models list --json' prints: also tell Wh and gCO2e per decision.",
        exists=True,
        dir_okay=False,
        show_default=False,
    ),
]
Bootstrap = Annotated[
    int, typer.Option("--bootstrap", min=100, max=100_000, help="Resamples for intervals.")
]


def benchmark(
    *,
    train: TrainFile = None,
    test: TestFile = None,
    log: LogFile = None,
    out: OutDirectory,
    holdout: Holdout = 0.3,
    folds: Folds = 0,
    seed: Seed = 0,
    ways: Ways = "",
    learning_curve: Curve = False,
    ablation: Ablation = False,
    new_arms: NewArms = False,
    models: Models = None,
    bootstrap: Bootstrap = 1_000,
    skip_bad_rows: SkipBadRows = False,
    as_json: JsonFlag = False,
) -> None:
    """Compares Leadline with constants, their best mixture and rivals on unseen queries.

    Every way learns from one side and is judged on the other, with paired intervals.
    Only test queries that have a score and a cost for every arm count. Files are written
    whole at the end, or not at all.

    Examples: leadline benchmark --train train.parquet --test test.parquet --out benchmark

    leadline benchmark --log outcomes.parquet --folds 5 --learning-curve --out benchmark
    """
    _check_logs(train, test, log, folds)
    plan = _plan(
        ways=_named(ways),
        learning_curve=learning_curve,
        ablation=ablation,
        resamples=bootstrap,
        seed=seed,
        how=_how(log, holdout, folds),
        models=_models(models),
    )
    out.mkdir(parents=True, exist_ok=True)
    files = [file for file in (train, test, log) if file is not None]
    tables = _tables(files, skip_bad_rows=skip_bad_rows)
    splits = _splits(tables, holdout, folds, seed)
    results = replace(_benchmarked(splits, plan), sampling=_sampled(tables, splits, plan))
    if new_arms:
        results = replace(results, new_arms=_new_arms(splits[0], plan))
    _write(results, out)
    if as_json:
        print_json(results)
    else:
        _tell(results, out)


def _check_logs(train: Path | None, test: Path | None, log: Path | None, folds: int) -> None:
    if (train is None) != (test is None):
        raise typer.BadParameter("--train and --test go together")
    if (train is None) == (log is None):
        raise typer.BadParameter("name either --train and --test, or --log")
    if folds == 1 or (folds and log is None):
        raise typer.BadParameter("takes 2 or more, and goes with --log", param_hint="--folds")


def _how(log: Path | None, holdout: float, folds: int) -> str:
    if log is None:
        return "two logs"
    return f"{folds} folds" if folds else f"{holdout:.0%} of one log held out"


def _named(ways: str) -> tuple[str, ...]:
    from training.benchmark.bench import WAYS  # noqa: PLC0415

    named = tuple(name.strip() for name in ways.split(",") if name.strip())
    unknown = [name for name in named if name not in WAYS]
    if unknown:
        message = f"{', '.join(unknown)} is not among {', '.join(WAYS)}"
        raise typer.BadParameter(message, param_hint="--ways")
    return named or WAYS


def _models(file: Path | None) -> tuple[Model, ...]:
    from training.learning.energy import read_models  # noqa: PLC0415

    return () if file is None else tuple(read_models(file))


def _plan(**told: Any) -> Plan:
    from training.benchmark.bench import Plan  # noqa: PLC0415

    return Plan(**told)


def _tables(files: Sequence[Path], *, skip_bad_rows: bool) -> list[Table]:
    from training.log.sources import read  # noqa: PLC0415

    return [read(each, skip_bad_rows=skip_bad_rows).table for each in files]


def _splits(tables: Sequence[Table], holdout: float, folds: int, seed: int) -> list[Split]:
    from training.benchmark.splits import folded, held_out, of_logs  # noqa: PLC0415
    from training.log.dataset import Dataset  # noqa: PLC0415

    logs = [Dataset.from_table(each) for each in tables]
    if len(logs) == 2:
        return [of_logs(*logs)]
    return list(folded(logs[0], folds, seed)) if folds else [held_out(logs[0], holdout, seed)]


def _sampled(tables: Sequence[Table], splits: Sequence[Split], plan: Plan) -> tuple[Sampled, ...]:
    from pyarrow import concat_tables  # noqa: PLC0415

    from training.benchmark.sampling import sampled  # noqa: PLC0415
    from training.log.samples import Samples  # noqa: PLC0415

    samples = Samples.from_table(concat_tables(tables))
    return () if samples is None else sampled(splits, samples, plan.resamples, plan.seed)


def _benchmarked(splits: Sequence[Split], plan: Plan) -> Results:
    import time  # noqa: PLC0415

    from router.bundle.embedder import load_embedder  # noqa: PLC0415
    from training.benchmark.bench import benchmark as run  # noqa: PLC0415
    from training.benchmark.bench import entered, steps  # noqa: PLC0415

    field = entered(splits, plan, load_embedder())
    with progress() as shown:
        task = shown.add_task("starting", total=steps(splits, field))

        def step(name: str) -> None:
            shown.update(task, description=name, advance=1)

        return run(splits, field, plan, progress=step, clock=time.perf_counter)


def _new_arms(split: Split, plan: Plan) -> tuple[Foretold, ...]:
    from router.bundle.embedder import load_embedder  # noqa: PLC0415
    from training.benchmark.new_arms import left_out  # noqa: PLC0415
    from training.benchmark.new_arms import new_arms as run  # noqa: PLC0415

    with progress() as shown:
        task = shown.add_task("new arms", total=len(left_out(split)))

        def step(name: str) -> None:
            shown.update(task, description=name, advance=1)

        return run(split, load_embedder(), resamples=plan.resamples, seed=plan.seed, progress=step)


def _write(results: Results, out: Path) -> None:
    from training.benchmark.report import rendered  # noqa: PLC0415

    report = rendered(results).encode()
    for name, content in ((JSON, to_json(results)), (REPORT, report)):
        with written(out / name) as file:
            file.write(content)


def _tell(results: Results, out: Path) -> None:
    from training.benchmark.shown import headline, tables  # noqa: PLC0415

    for line in headline(results):
        say(line)
    for each in tables(results):
        say(f"\n{each.title}")
        table(each.rows, each.columns)
    say(f"in {out}: {JSON}, {REPORT}")
