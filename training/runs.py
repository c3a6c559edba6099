"""Training runs: from a log to a bundle, or from the database to a candidate in its registry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from router.bundle.archive import pack
from router.bundle.embedder import load_embedder
from router.bundle.manifest import MANIFEST
from router.bundle.signing import SigningKey
from router.errors import InvalidInput, LeadlineError
from router.ids import uuid7
from router.store.arrivals import PostgresArrivals
from router.store.attempts import attempts
from router.store.catalog import PostgresCatalog
from router.store.engine import DatabaseRole, connect
from router.store.keys import SigningKeys
from router.store.registry import PostgresRegistry
from router.store.training_runs import TrainingRuns
from router.types import PolicyRecord
from training.adapting import adapt, opened
from training.dataset import Dataset
from training.interactions import settle
from training.learner import Progress
from training.learning import learn, write_bundle
from training.samples import Samples
from training.sources import Log, read
from training.targets import Trained

_NO_TIME = datetime(1971, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a training run is told."""

    seed: int
    share: float
    key: SigningKey
    actor: str
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A policy that stands in the registry as a candidate, with the log that taught it."""

    record: PolicyRecord
    policy: Trained
    log: Log


def train_from_database(dsn: str, options: Options, *, now: datetime) -> Registered:
    """Learns from every interaction in the database and registers the policy.

    Rows that cannot teach, as those whose text was erased, are left out and counted. The
    run is in the book either way. Raises InvalidInput when the log cannot teach.
    """
    engine = connect(dsn, role=DatabaseRole.TRAINER, application_name="leadline train")
    try:
        runs = TrainingRuns(engine)
        with _booked(runs, now) as finished:
            options.progress("reading the database")
            embedder, before = load_embedder(), PostgresArrivals(engine).horizon()
            settled = settle(
                attempts(engine, before=before), now=now, embedder=embedder, seed=options.seed
            )
            log = settled.log
            dataset = Dataset.from_table(log.table)
            catalog = PostgresCatalog(engine).read()
            policy = learn(
                dataset,
                embedder=embedder,
                catalog_models=catalog.models,
                share=options.share,
                seed=options.seed,
                samples=Samples.from_table(log.table),
                progress=options.progress,
            )
            archive = _archive(policy, options.key, made_at(dataset, now))
            policy = replace(policy, summary={**policy.summary, "outcomes": settled.summary})
            key = options.key
            SigningKeys(engine).trust(key.key_id, key.public_key, actor=options.actor)
            registry = PostgresRegistry(engine)
            record = registry.register(archive, policy.summary, actor=options.actor)
            finished(policy_version=record.version, policy=policy)
        return Registered(record=record, policy=policy, log=log)
    finally:
        engine.dispose()


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A policy that stands in a directory as a bundle, with the log that taught it."""

    policy: Trained
    log: Log


def train_from_log(path: Path, out: Path, options: Options, *, skip_bad_rows: bool) -> Written:
    """Learns from an outcome log and writes the bundle; no database is touched.

    Raises BadRows, and InvalidInput when the log cannot teach or `out` holds something else.
    """
    _check_out(out)
    log = read(path, skip_bad_rows=skip_bad_rows)
    dataset = Dataset.from_table(log.table)
    policy = learn(
        dataset,
        embedder=load_embedder(),
        share=options.share,
        seed=options.seed,
        samples=Samples.from_table(log.table),
        progress=options.progress,
    )
    written = datetime.fromtimestamp(int(path.stat().st_mtime), UTC)
    write_bundle(policy, out, options.key, made_at(dataset, written))
    return Written(policy=policy, log=log)


def adapt_from_log(
    path: Path,
    base: Path,
    out: Path,
    options: Options,
    *,
    trusted: Mapping[str, bytes],
    skip_bad_rows: bool,
) -> Written:
    """Takes an outcome log's new arms into the policy of the bundle `base`, and writes another.

    Raises BundleRefused, BadRows, and InvalidInput when the log has no new arm or `out` is
    `base` or holds something else.
    """
    if out.resolve() == base.resolve():
        raise InvalidInput(
            f"{out} is the bundle to adapt, which a later log will need; name another directory",
            field="out",
        )
    _check_out(out)
    if not base.is_dir():
        raise InvalidInput(f"{base} is no directory; name a bundle that train wrote", field="adapt")
    options.progress("opening the bundle")
    policy = opened(base, trusted=trusted, embedder=load_embedder())
    log = read(path, skip_bad_rows=skip_bad_rows)
    dataset = Dataset.from_table(log.table)
    adapted = adapt(policy, dataset, seed=options.seed, progress=options.progress)
    written = datetime.fromtimestamp(int(path.stat().st_mtime), UTC)
    write_bundle(adapted, out, options.key, made_at(dataset, written))
    return Written(policy=adapted, log=log)


def _check_out(out: Path) -> None:
    """Refuses before the work what the writer would refuse after it."""
    if not out.exists() or (out / MANIFEST).is_file():
        return
    if not out.is_dir() or any(out.iterdir()):
        raise InvalidInput(f"{out} holds something else; name a new directory", field="out")


def made_at(dataset: Dataset, otherwise: datetime) -> datetime:
    """The newest time in the log, so that the same log gives the same bundle."""
    found = dataset.watermark
    return found if found is not None and found > _NO_TIME else otherwise


def _archive(policy: Trained, key: SigningKey, at: datetime) -> bytes:
    with TemporaryDirectory(prefix="leadline-") as directory:
        place = Path(directory) / "bundle"
        write_bundle(policy, place, key, at)
        return pack(place)


@contextmanager
def _booked(runs: TrainingRuns, now: datetime) -> Iterator[Any]:
    """Enters a run and its end: what it registered, or why it failed."""
    run_id = uuid7(now)
    runs.start(run_id, now=now)

    def finished(*, policy_version: int, policy: Trained) -> None:
        runs.finish(
            run_id,
            now=datetime.now(UTC),
            policy_version=policy_version,
            dataset_digest=policy.summary["dataset_digest"],
            figures=policy.summary,
        )

    try:
        yield finished
    except LeadlineError as error:
        runs.fail(run_id, now=datetime.now(UTC), error=error.message)
        raise
    except Exception as error:
        runs.fail(run_id, now=datetime.now(UTC), error=type(error).__name__)
        raise
