"""What grows: a million decisions, more machines, and months that leave Postgres."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from router.bundle.embedder import load_embedder
from router.bundle.signing import SigningKey
from router.offline import Policy
from router.store.archive_files import ArchiveDirectory
from router.store.attempts import attempts
from router.store.engine import DatabaseRole, connect
from router.types import Floats, Mask
from tests.kit.growth import Growth, ended, grow
from tests.kit.logs import bandit
from tests.kit.months import archive_killed, archiver, everything, fill, with_months
from tests.kit.nights import LEADLINE
from tests.kit.postgres import PostgresServer
from tests.promises import Measured, promise
from training.learning.distributed import on_dask
from training.learning.policy import Learning, Part, learn, write_bundle
from training.log.dataset import floats
from training.log.sides import Sides, sides
from training.log.thinning import Most, thinned
from training.scores.covariates import arm_keys
from training.scores.interactions import settle

DECISIONS, COPIES = 1_000_000, 10
MOST_S, MOST_GB = 900.0, 6.0

THINNED = Most(typical=10_000, scored=12_000, unscored=4_000)
"""A tenth of what is taken of a million, for a hundred thousand."""

MOST_WORSE = 0.002
RESAMPLES = 1_000
KILLED_AT = (*range(11), 0, 1, 0, 1)
"""Steps of one run after the other: while it writes and vouches, detaches, and drops."""

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@contextmanager
def _database(server: PostgresServer | None = None) -> Iterator[str]:
    own = server or PostgresServer()
    try:
        own.start()
        own.make_template()
        with own.database() as dsn:
            yield dsn
    finally:
        own.remove()


@promise(
    step=4,
    name="A million decisions",
    must=f"{DECISIONS:,} decisions of 24 arms in Postgres: 'leadline train' in under 15 minutes "
    "and 6 GB on two cores",
)
def million() -> Measured:
    """The command itself; its peak is that of its process, beside Postgres."""
    with _database() as dsn, tempfile.TemporaryDirectory() as state:
        grow(dsn, Growth(decisions=DECISIONS // COPIES, copies=COPIES, until=ended()))
        took_s, peak_gb, code = _trained(dsn, Path(state))
    return Measured(
        figures=f"{took_s:.0f} s and {peak_gb:.1f} GB"
        + ("" if code == 0 else f"; it ended with {code}"),
        held=code == 0 and took_s < MOST_S and peak_gb < MOST_GB,
    )


def _trained(dsn: str, state: Path) -> tuple[float, float, int]:
    """The seconds, the peak in GB and the exit code of the command."""
    environment = {**os.environ, "LEADLINE_STATE_DIR": str(state)}
    started = time.monotonic()
    pid = os.spawnve(os.P_NOWAIT, LEADLINE[0], [*LEADLINE, "train", "--dsn", dsn], environment)
    _, status, used = os.wait4(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return time.monotonic() - started, used.ru_maxrss / 1e6, code


@promise(
    step=4,
    name="Thinning loses nothing",
    must=f"100,000 decisions thinned as hard as a million are, to about a quarter of their rows: "
    f"the held-out Brier score is worse by less than {MOST_WORSE}, with 95 % confidence",
)
def thinning() -> Measured:
    """The same held-out rows judge a policy of all rows and one of those that stayed."""
    with _database() as dsn:
        grow(dsn, Growth(decisions=100_000, until=ended()))
        worse, low, high, share = thinning_costs(dsn, THINNED)
    return Measured(
        figures=f"{100 * share:.0f} % of the rows: Brier score {worse:+.4f} "
        f"({low:+.4f} to {high:+.4f})",
        held=high < MOST_WORSE,
    )


def thinning_costs(dsn: str, most: Most) -> tuple[float, float, float, float]:
    """How much worse thinned rows teach, its 95 % interval, and what share of them stayed."""
    embedder = load_embedder()
    trainer = connect(dsn, role=DatabaseRole.TRAINER)
    try:
        log = settle(attempts(trainer), now=datetime.now(UTC), embedder=embedder).log.table
    finally:
        trainer.dispose()
    split = sides(log, 0.2)
    table = thinned(log, split.kept, most=most)
    stays = np.asarray(table["kept"])
    learning = Learning(embedder=embedder)
    scored = split.held & np.asarray(log["score"].is_valid())
    whole, few = (
        _errors(learning, each, sides_, scored)
        for each, sides_ in ((log, split), (table, replace(split, kept=split.kept & stays)))
    )
    rng, apart = np.random.default_rng(0), few - whole
    means = [rng.choice(apart, len(apart)).mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, (0.025, 0.975))
    share = float(stays[split.kept].mean())
    return float(apart.mean()), float(low), float(high), share


def _errors(learning: Learning, log: pa.Table, split: Sides, scored: Mask) -> Floats:
    """The squared error of each scored row that is held out."""
    made = learning.judged(Part.of(log, split))
    held = log.filter(pa.array(scored))
    with tempfile.TemporaryDirectory() as name:
        key = SigningKey.load_or_create(Path(name) / "key")
        write_bundle(made, Path(name) / "bundle", key, NOW)
        policy = Policy.load(Path(name) / "bundle", trusted_keys=[key.public_key.hex()]).bound
    place = {arm.key: at for at, arm in enumerate(policy.arms)}
    texts = held["query"].unique().to_pylist()
    known = dict(zip(texts, _accuracy(policy, texts), strict=True))
    told = zip(held["query"].to_pylist(), arm_keys(held), strict=True)
    guess = np.array([known[text][place[arm]] for text, arm in told])
    return np.square(guess - floats(held, "score"))


def _accuracy(policy: Any, texts: list[str]) -> list[Floats]:
    found: list[Floats] = []
    for start in range(0, len(texts), 256):
        found += [each.predictions.accuracy for each in policy.predict(texts[start : start + 256])]
    return found


@promise(
    step=4,
    name="Dask gives equal metrics",
    must="trees grown on a local cluster of two workers: the held-out Brier score and AUC within "
    "0.005 of those of trees grown here",
)
def on_two_workers() -> Measured:
    """The whole recipe on 3,000 simulated decisions; only the trees are grown elsewhere."""
    dataset, embedder = bandit(3_000).dataset, load_embedder()
    here = learn(dataset, embedder=embedder).summary["held_out"]["prediction"]
    with on_dask("local"):
        there = learn(dataset, embedder=embedder).summary["held_out"]["prediction"]
    apart = [abs(here[name] - there[name]) for name in ("brier", "auc")]
    return Measured(
        figures=f"Brier score {here['brier']:.4f} here, {there['brier']:.4f} there; AUC "
        f"{here['auc']:.4f} and {there['auc']:.4f}",
        held=max(apart) < 0.005,
    )


@promise(
    step=4,
    name="Archiving loses nothing",
    must="kill -9 at each step of taking a month of two tenants out of Postgres: after each one "
    "every row is there once, and the next run finishes",
)
def archiving() -> Measured:
    """Each kill is of a process of its own, at one step later."""
    spawned = multiprocessing.get_context("spawn")
    start, kept, killed = datetime(2026, 1, 1, tzinfo=UTC), 0, 0
    with _database(PostgresServer(durable=True)) as dsn, tempfile.TemporaryDirectory() as name:
        with_months(dsn, start, 3)
        fill(dsn, start, 200, "acme", "globex")
        before = everything(dsn, Path(name))
        for number in KILLED_AT:
            child = spawned.Process(target=archive_killed, args=(dsn, name, number))
            child.start()
            child.join()
            killed += child.exitcode == -signal.SIGKILL
            kept += everything(dsn, Path(name)) == before
        with archiver(dsn, Path(name)) as found:
            gone = found.months()[0].name > "2026-01"
        months = ArchiveDirectory(Path(name)).months()
    return Measured(
        figures=f"{killed} kills, every row there once after {kept} of them; the month "
        f"{'dropped' if gone else 'NOT DROPPED'}, {sum(months[0].rows.values()):,} rows in files",
        held=kept == killed == len(KILLED_AT) and gone,
    )
