"""Training runs: what each began with, how far it came, how it ended, and its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, insert, select, update

from router.store.engine import transaction
from router.store.tables import training_runs

SCOPE = "database"
"""What runs learn from: all tenants of a database, since they share its policies."""


class RunState(StrEnum):
    """How far a training run has come."""

    RUNNING = "running"
    INTERRUPTED = "interrupted"
    DONE = "done"
    FAILED = "failed"


UNFINISHED = (RunState.RUNNING, RunState.INTERRUPTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a run begins with; the same give the same policy.

    `watermark` is the place in the order of arrival (`Arrivals.horizon`) before which it
    reads, `started_at` the time as of which it judges what is late or missing.
    """

    run_id: UUID
    started_at: datetime
    watermark: int
    seed: int
    holdout: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRun:
    """One run of training; `policy_version` is what it registered, if anything.

    Runs of an older version than stages have no watermark, seed, holdout or stage.
    """

    run_id: UUID
    started_at: datetime
    finished_at: datetime | None
    state: RunState
    stage: str | None
    stage_at: datetime | None
    policy_version: int | None
    dataset_digest: str | None
    figures: Mapping[str, Any]
    error: str | None
    scope: str
    watermark: int | None
    seed: int | None
    holdout: float | None

    @property
    def duration_s(self) -> float:
        """The time from its start to its end, or to its newest stage."""
        last = self.finished_at or self.stage_at or self.started_at
        return (last - self.started_at).total_seconds()


class TrainingRuns:
    """The book of training runs, for the trainer's role; one at a time writes (`OneTrainer`)."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def begin(self, wanted: Wanted, *, resumes_from: datetime) -> TrainingRun:
        """Enters a run, or takes up the one that was broken off, with what that began with.

        One that started before `resumes_from`, or with another seed or holdout, has failed.
        """
        with transaction(self._engine) as connection:
            left = _unfinished(connection)
            if left is not None and _goes_on(left, wanted, resumes_from):
                _write(connection, left.run_id, state=RunState.RUNNING, error=None)
                return left
            if left is not None:
                error = (
                    f"it was broken off at the stage {left.stage or 'begin'}, and a new one began"
                )
                ended = {"finished_at": wanted.started_at, "error": error}
                _write(connection, left.run_id, state=RunState.FAILED, **ended)
            values = {name: getattr(wanted, name) for name in Wanted.__slots__}
            values |= {"state": RunState.RUNNING, "scope": SCOPE}
            connection.execute(insert(training_runs).values(values))
            return _known(connection, wanted.run_id)

    def reach(self, run_id: UUID, stage: str, *, now: datetime) -> None:
        """Notes the stage that a run is at."""
        with transaction(self._engine) as connection:
            _write(connection, run_id, stage=stage, stage_at=now)

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
        with transaction(self._engine) as connection:
            _write(
                connection,
                run_id,
                state=RunState.DONE,
                finished_at=now,
                policy_version=policy_version,
                dataset_digest=dataset_digest,
                figures=dict(figures),
            )

    def interrupt(self, run_id: UUID, *, error: str) -> None:
        """Notes that a run was broken off, and why; the next one may take it up."""
        with transaction(self._engine) as connection:
            _write(connection, run_id, state=RunState.INTERRUPTED, error=error)

    def fail(self, run_id: UUID, *, now: datetime, error: str) -> None:
        """Notes that a run has failed, and why; it is not taken up again."""
        with transaction(self._engine) as connection:
            _write(connection, run_id, state=RunState.FAILED, finished_at=now, error=error)

    def recent(self, limit: int = 50) -> Sequence[TrainingRun]:
        """The newest runs first."""
        query = select(training_runs).order_by(training_runs.c.started_at.desc()).limit(limit)
        with transaction(self._engine) as connection:
            return [_run(row) for row in connection.execute(query).mappings()]


def _goes_on(left: TrainingRun, wanted: Wanted, resumes_from: datetime) -> bool:
    same = (left.seed, left.holdout) == (wanted.seed, wanted.holdout)
    return same and left.watermark is not None and left.started_at >= resumes_from


def _unfinished(connection: Connection) -> TrainingRun | None:
    where = (training_runs.c.scope == SCOPE) & training_runs.c.state.in_(UNFINISHED)
    row = connection.execute(select(training_runs).where(where)).mappings().one_or_none()
    return None if row is None else _run(row)


def _known(connection: Connection, run_id: UUID) -> TrainingRun:
    query = select(training_runs).where(training_runs.c.run_id == run_id)
    return _run(connection.execute(query).mappings().one())


def _write(connection: Connection, run_id: UUID, **values: Any) -> None:
    connection.execute(update(training_runs).where(training_runs.c.run_id == run_id).values(values))


def _run(row: Any) -> TrainingRun:
    return TrainingRun(**{**row, "state": RunState(row["state"])})
