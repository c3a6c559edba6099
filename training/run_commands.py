"""leadline training-runs: what came of learning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.commands.options import Dsn, JsonFlag
from router.commands.output import show

if TYPE_CHECKING:
    from router.store.training_runs import TrainingRun

COLUMNS = ("started", "state", "stage", "duration_s", "rows", "policy", "drift", "error")


def training_runs(
    *,
    limit: Annotated[int, typer.Option(help="Most runs to list.", min=1)] = 20,
    dsn: Dsn = "",
    as_json: JsonFlag = False,
) -> None:
    """Lists the runs of 'leadline train' on the database, newest first.

    Example: leadline training-runs --limit 5
    """
    from router.commands.database import database  # noqa: PLC0415
    from router.store.engine import DatabaseRole, connect  # noqa: PLC0415
    from router.store.training_runs import TrainingRuns  # noqa: PLC0415

    with database(dsn) as opened:
        engine = connect(opened.dsn, role=DatabaseRole.TRAINER)
        try:
            found = [_told(run) for run in TrainingRuns(engine).recent(limit)]
        finally:
            engine.dispose()
    rows = [tuple(each[name] for name in COLUMNS) for each in found]
    show(found, rows, COLUMNS, as_json=as_json, empty="no runs; 'leadline train' makes the first")


def _told(run: TrainingRun) -> dict[str, Any]:
    drift = run.figures.get("drift") or {}
    return {
        "run_id": str(run.run_id),
        "started": run.started_at,
        "finished": run.finished_at,
        "state": run.state,
        "stage": run.stage,
        "duration_s": run.duration_s,
        "rows": run.figures.get("rows"),
        "policy": run.policy_version,
        "drift": drift.get("severity"),
        "moved": drift.get("reasons"),
        "stages_s": run.figures.get("stages_s"),
        "dataset_digest": run.dataset_digest,
        "error": run.error,
    }
