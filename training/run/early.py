"""Whether drift calls for learning before the night, asked of the newest interactions."""

from __future__ import annotations

from datetime import datetime, timedelta

from router.bundle.embedder import load_embedder
from router.errors import BundleRefused, InvalidInput
from router.store.attempts import attempts
from router.store.engine import DatabaseRole, connect
from router.store.keys import SigningKeys
from router.store.registry import PostgresRegistry
from router.store.training_runs import TrainingRuns
from training.drift.search import Drift
from training.drift.since import Active, since_trained
from training.scores.interactions import settle

LOOKED_BACK = timedelta(days=30)
"""Of what the active policy learnt from, so much is looked at."""

APART = timedelta(hours=6)
"""The time that a run is given before drift may call for another."""


def drifted(dsn: str, *, now: datetime, seed: int = 0) -> Drift | None:
    """What moved since the active policy was trained; None where that is not asked now.

    It is not asked while nothing that was learnt serves, while a canary is tried, and within
    six hours of another run, whose policy may be the answer to it.
    """
    engine = connect(dsn, role=DatabaseRole.TRAINER, application_name="leadline train")
    try:
        registry, keys = PostgresRegistry(engine), SigningKeys(engine)
        record = registry.active()
        newest = next(iter(TrainingRuns(engine).recent(1)), None)
        late = newest is not None and now - newest.started_at < APART
        if record is None or late or registry.on_trial() is not None:
            return None
        embedder = load_embedder()
        active = Active.of(record, registry.bundle(record.version), keys.trusted(), embedder)
        if active is None:
            return None
        found = attempts(engine, since=active.watermark - LOOKED_BACK)
        log = settle(found, now=now, embedder=embedder, seed=seed).log.table
        return since_trained(log, active, now=now, seed=seed)
    except (BundleRefused, InvalidInput):
        return None  # what is wrong with either, a run's own end will tell
    finally:
        engine.dispose()
