"""Training runs: when each began, how it ended, and its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, select, update
from sqlalchemy.dialects.postgresql import insert

from router.store.engine import transaction
from router.store.tables import training_runs


class RunState(StrEnum):
    """How far a training run has come."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRun:
    """One run of training; `policy_version` is what it registered, if anything."""

    run_id: UUID
    started_at: datetime
    finished_at: datetime | None
    state: RunState
    policy_version: int | None
    dataset_digest: str | None
    figures: Mapping[str, Any]
    error: str | None


class TrainingRuns:
    """The book of training runs, for the trainer's role."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def start(self, run_id: UUID, *, now: datetime) -> None:
        """Enters a run; a second call does nothing."""
        values = {"run_id": run_id, "started_at": now, "state": RunState.RUNNING}
        with transaction(self._engine) as connection:
            connection.execute(insert(training_runs).values(values).on_conflict_do_nothing())

    def finish(
        self,
        run_id: UUID,
        *,
        now: datetime,
        policy_version: int | None,
        dataset_digest: str,
        figures: Mapping[str, Any],
    ) -> None:
        """Notes that a run is done."""
        self._end(
            run_id,
            state=RunState.DONE,
            finished_at=now,
            policy_version=policy_version,
            dataset_digest=dataset_digest,
            figures=dict(figures),
        )

    def fail(self, run_id: UUID, *, now: datetime, error: str) -> None:
        """Notes that a run has failed, and why."""
        self._end(run_id, state=RunState.FAILED, finished_at=now, error=error)

    def recent(self, limit: int = 50) -> Sequence[TrainingRun]:
        """The newest runs first."""
        query = select(training_runs).order_by(training_runs.c.started_at.desc()).limit(limit)
        with transaction(self._engine) as connection:
            rows = connection.execute(query).mappings()
            return [TrainingRun(**{**row, "state": RunState(row["state"])}) for row in rows]

    def _end(self, run_id: UUID, **values: Any) -> None:
        with transaction(self._engine) as connection:
            connection.execute(
                update(training_runs).where(training_runs.c.run_id == run_id).values(values)
            )
