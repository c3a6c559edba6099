"""Runs from the database: one at a time, in the book, and taken up where they were broken off."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path

from router.bundle.embedder import load_embedder
from router.errors import Conflict, LeadlineError, Unavailable
from router.ids import uuid7
from router.store.archived_rows import archived_attempts
from router.store.arrivals import PostgresArrivals
from router.store.attempts import attempts
from router.store.catalog import PostgresCatalog
from router.store.engine import DatabaseRole, connect
from router.store.keys import SigningKeys
from router.store.places import OneTrainer
from router.store.registry import PostgresRegistry
from router.store.slos import PostgresSlos
from router.store.tenants import PostgresTenants
from router.store.training_runs import TrainingRun, TrainingRuns, Wanted
from training.job import train
from training.run.room import Options, Registered, Room, Stores
from training.run.stages import Workshop

RESUME_WITHIN = timedelta(hours=12)
"""A run that was broken off longer ago gives way to one that knows of today."""

RESULTS = "training"
_LOOK_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a run shares the database with others, and where its stages leave their results.

    What the `archive` holds is learnt from too, where there is one.
    """

    directory: Path
    resume_within: timedelta = RESUME_WITHIN
    wait: bool = False
    archive: Path | None = None


def train_from_database(dsn: str, options: Options, manner: Manner, *, now: datetime) -> Registered:
    """Learns from every interaction in the database and registers the policy.

    All tenants teach: they share the database's policies. Rows that cannot teach, as those
    whose text was erased, are left out and counted. The run is in the book either way.
    Raises Conflict when another one is under way, and all that `training.job.train` does.
    """
    engine = connect(dsn, role=DatabaseRole.TRAINER, application_name="leadline train")
    place, runs = OneTrainer(dsn), TrainingRuns(engine)
    try:
        _take(place, runs, manner)
        wanted = Wanted(
            run_id=uuid7(now),
            started_at=now,
            watermark=PostgresArrivals(engine).horizon(),
            seed=options.seed,
            holdout=options.share,
        )
        run = runs.begin(wanted, resumes_from=now - manner.resume_within)
        stores = Stores(
            runs=runs,
            attempts=lambda before: chain(
                archived_attempts(engine, manner.archive), attempts(engine, before=before)
            ),
            catalog=PostgresCatalog(engine),
            keys=SigningKeys(engine),
            registry=PostgresRegistry(engine),
            tenants=PostgresTenants(engine),
            slos=PostgresSlos(engine),
        )
        return _booked(run, stores, place, options, manner)
    finally:
        place.close()
        engine.dispose()


def _take(place: OneTrainer, runs: TrainingRuns, manner: Manner) -> None:
    """Takes the only place, at once or when it falls free. Raises Conflict and Unavailable."""
    while not place.holds():
        (newest, *_) = runs.recent(1) or (None,)
        if not manner.wait:
            raise Conflict(_under_way(newest))
        time.sleep(_LOOK_S)


def _under_way(run: TrainingRun | None) -> str:
    if run is None:
        return "another run is about to begin; wait for it with --wait"
    return (
        f"another run is under way (started {run.started_at:%Y-%m-%d %H:%M:%S} UTC, stage "
        f"{run.stage or 'begin'}); wait for it with --wait"
    )


def _booked(
    run: TrainingRun, stores: Stores, place: OneTrainer, options: Options, manner: Manner
) -> Registered:
    """Takes a run through its stages and enters its end."""
    embedder = load_embedder()
    inputs = (
        [run.watermark, run.started_at, run.seed, run.holdout],
        [embedder.name, embedder.digest, options.key.key_id, str(manner.archive or "")],
    )
    shop = Workshop(manner.directory, run.run_id, inputs)
    room = Room(stores=stores, place=place, run=run, shop=shop, embedder=embedder, options=options)
    shop.prune()
    with _ended(stores.runs, run, place):
        done = train(room)
        shop.remove()
        stores.runs.finish(
            run.run_id,
            now=datetime.now(UTC),
            policy_version=done.record.version,
            dataset_digest=done.summary["dataset_digest"],
            figures={**done.summary, "stages_s": dict(done.stages_s)},
        )
    return done


@contextmanager
def _ended(runs: TrainingRuns, run: TrainingRun, place: OneTrainer) -> Iterator[None]:
    """Enters why a run did not end well, where Postgres is there to hear it.

    What may go better another time is broken off alone, and nothing where another has taken
    the run over.
    """
    try:
        yield
    except Conflict:
        raise
    except LeadlineError as error:
        with contextlib.suppress(Unavailable):
            if not isinstance(error, Unavailable):
                runs.fail(run.run_id, now=datetime.now(UTC), error=error.message)
            elif place.holds():
                runs.interrupt(run.run_id, error=error.message)
        raise
    except KeyboardInterrupt:
        with contextlib.suppress(Unavailable):
            runs.interrupt(run.run_id, error="it was stopped")
        raise
    except Exception as error:
        with contextlib.suppress(Unavailable):
            runs.fail(run.run_id, now=datetime.now(UTC), error=type(error).__name__)
        raise
