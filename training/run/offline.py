"""Training with no database: from an outcome log to a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from router.bundle.embedder import load_embedder
from router.bundle.manifest import MANIFEST
from router.errors import InvalidInput
from training.learning.adapting import adapt, opened
from training.learning.policy import Learning, Part, write_bundle
from training.learning.targets import Trained
from training.log.dataset import Dataset
from training.log.samples import Samples
from training.log.sides import sides
from training.log.sources import Log, read
from training.run.room import Options, made_at


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
    learning = Learning(
        embedder=load_embedder(),
        seed=options.seed,
        samples=Samples.from_table(log.table),
        progress=options.progress,
    )
    part = Part.of(log.table, sides(log.table, options.share, options.seed))
    policy = learning.final(dataset, learning.judged(part).summary["held_out"])
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
