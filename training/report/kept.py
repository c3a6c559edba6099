"""The report of a run that has registered a policy, with what the registry knows of both sides."""

from __future__ import annotations

from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from router.bundle.archive import unpack_files
from router.bundle.manifest import MANIFEST, parse
from router.store.engine import DatabaseRole, connect
from router.store.registry import PostgresRegistry
from router.store.training_runs import TrainingRun, TrainingRuns
from router.types import PolicyRecord
from training.report.looked import Looked
from training.report.whole import Run, Side, keep

_RUNS, _RECORDS = 100, 10_000
_APPLICATION = "leadline train"


def keep_report(
    dsn: str,
    record: PolicyRecord,
    state_dir: Path,
    *,
    now: datetime,
    looked: Looked | None = None,
) -> Path | None:
    """Writes the report of the newest run that registered the policy; says where.

    Where it is not known what it stood against, that is the policy that is active now. None
    where no run in the book has registered it.
    """
    engine = connect(dsn, role=DatabaseRole.TRAINER, application_name=_APPLICATION)
    try:
        registry = PostgresRegistry(engine)
        run = _run(TrainingRuns(engine), record)
        if run is None:
            return None
        looked = looked or Looked()
        before = _before(registry, record, looked.incumbent)
        own, known = _side(registry, record), None if before is None else _side(registry, before)
    finally:
        engine.dispose()
    return keep(_told(run, record, (own, known), looked, now), state_dir)


def _before(
    registry: PostgresRegistry, record: PolicyRecord, version: int | None
) -> PolicyRecord | None:
    """What the policy stood against; None for the static one, and for itself."""
    if version is None:
        found = registry.active()
    else:
        known = registry.records(_RECORDS)
        found = next((each for each in known if each.version == version), None)
    return None if found is None or found.version == record.version else found


def _told(
    run: TrainingRun,
    record: PolicyRecord,
    sides: tuple[Side, Side | None],
    looked: Looked,
    now: datetime,
) -> Run:
    own, before = sides
    return Run(
        run_id=run.run_id,
        started_at=run.started_at,
        finished_at=run.finished_at or now,
        candidate=own,
        state=record.state,
        share=record.share,
        incumbent=before,
        verdict=looked.verdict,
        unjudged=looked.unjudged,
        measured=looked.measured,
        drift=looked.drift,
        audit=looked.audit,
        scaling=looked.scaling,
        stages_s=looked.stages_s,
        seed=run.seed,
        watermark=run.watermark,
        versions={"leadline": version("leadline"), **own.versions},
    )


def _run(runs: TrainingRuns, record: PolicyRecord) -> TrainingRun | None:
    found = runs.recent(_RUNS)
    return next((each for each in found if each.policy_version == record.version), None)


def _side(registry: PostgresRegistry, record: PolicyRecord) -> Side:
    archive = unpack_files(registry.bundle(record.version))
    return Side.of(record, parse(archive[MANIFEST]))
