"""The report of a run that has registered a policy, with what the registry knows of both sides."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from sqlalchemy import Engine

from router.bundle.archive import unpack_files
from router.bundle.manifest import MANIFEST, parse
from router.store.engine import DatabaseRole, connect
from router.store.registry import PostgresRegistry
from router.store.training_runs import TrainingRun, TrainingRuns
from router.types import PolicyRecord
from training.drift import Drift
from training.fairness_verdict import Audit
from training.gate_verdict import Verdict
from training.report import Run, Side, keep
from training.report_measured import Measured
from training.scaling_values import ScalingLaws

_RUNS = 100
_APPLICATION = "leadline train"


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What was looked at before the policy was let through, or not; None where it was not."""

    verdict: Verdict | None = None
    measured: Measured | None = None
    drift: Drift | None = None
    audit: Audit | None = None
    scaling: ScalingLaws | None = None


def keep_report(
    dsn: str,
    record: PolicyRecord,
    state_dir: Path,
    *,
    now: datetime,
    looked: Looked | None = None,
    incumbent: PolicyRecord | None = None,
) -> Path | None:
    """Writes the report of the newest run that registered the policy; says where.

    It stands against the `incumbent`, or else the policy that is active now. None where no
    run in the book has registered it.
    """
    engine = connect(dsn, role=DatabaseRole.TRAINER, application_name=_APPLICATION)
    try:
        registry = PostgresRegistry(engine)
        run = _run(engine, record)
        if run is None:
            return None
        own, before = _side(registry, record), incumbent or registry.active()
        same = before is None or before.version == record.version
        known = None if same or before is None else _side(registry, before)
    finally:
        engine.dispose()
    return keep(_told(run, record, (own, known), looked or Looked(), now), state_dir)


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
        measured=looked.measured,
        drift=looked.drift,
        audit=looked.audit,
        scaling=looked.scaling,
        seed=run.seed,
        watermark=run.watermark,
        versions={"leadline": version("leadline"), **own.versions},
    )


def _run(engine: Engine, record: PolicyRecord) -> TrainingRun | None:
    runs = TrainingRuns(engine).recent(_RUNS)
    return next((each for each in runs if each.policy_version == record.version), None)


def _side(registry: PostgresRegistry, record: PolicyRecord) -> Side:
    archive = unpack_files(registry.bundle(record.version))
    return Side.of(record, parse(archive[MANIFEST]))
