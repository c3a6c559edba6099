"""The training job under kills: the same policy, nothing half registered, one at a time."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from router.errors import Conflict, Unavailable
from router.store.places import OneTrainer
from router.store.training_runs import RunState
from tests.kit.nights import Book, Nights, history
from tests.kit.postgres import PostgresServer
from tests.promises import Measured, promise
from training.job import STAGES

QUERIES, KILLS, LONGEST_S = 400, 30, 12.0


@contextmanager
def _cluster() -> Iterator[tuple[PostgresServer, Path]]:
    server = PostgresServer(durable=True)
    try:
        server.start()
        server.make_template()
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
            yield server, Path(name)
    finally:
        server.remove()


@contextmanager
def _nights(server: PostgresServer, state: Path) -> Iterator[Nights]:
    """A database of its own with the same history as all others."""
    with server.database() as dsn:
        history(dsn, QUERIES)
        yield Nights(dsn=dsn, state=state)


@promise(
    step=4,
    name="A kill costs the job nothing",
    must=f"kill -9 as each of {len(STAGES)} stages begins and at {KILLS} random instants, results "
    "there or lost: the rerun gives the same bytes in the same run, and nothing is half registered",
)
def kills() -> Measured:
    """Every chain of kills is on a database of its own."""
    rng, same, whole, chains = np.random.default_rng(0), 0, 0, len(STAGES) + KILLS // 3
    with _cluster() as (server, state):
        with _nights(server, state) as undisturbed:
            digest = undisturbed.finished()["bundle_sha256"]
        for chain in range(chains):
            with _nights(server, state) as nights:
                if chain < len(STAGES):
                    nights.killed_at(STAGES[chain])
                for seconds in rng.uniform(0.0, LONGEST_S, 0 if chain < len(STAGES) else 3):
                    nights.killed_after(float(seconds))
                whole += Book.of(nights.dsn).policies in ([], [digest])
                if chain % 2:
                    shutil.rmtree(state / "training", ignore_errors=True)
                same += _rerun(nights, digest)
    return Measured(
        figures=f"{same} of {chains} chains ended with the bytes of an undisturbed run; "
        f"{chains - whole} half registered",
        held=same == whole == chains,
    )


def _rerun(nights: Nights, digest: str) -> bool:
    """Whether a run that nobody disturbs ends with these bytes and a book in order."""
    nights.finished()
    book = Book.of(nights.dsn)
    return book.policies == [digest] and all(state == RunState.DONE for _, state, _ in book.runs)


@promise(
    step=4,
    name="One job at a time, and an outage is survived",
    must="a second job leaves, or waits; Postgres killed as each stage begins: a clear failure, "
    "nothing half registered, and the next run gives the same bytes",
)
def outages() -> Measured:
    """Real kills of a real Postgres."""
    clear, same = 0, 0
    with _cluster() as (server, state):
        with _nights(server, state) as nights:
            digest = nights.finished()["bundle_sha256"]
            left = _leaves(nights)
        for stage in STAGES:
            with _nights(server, state) as nights:
                clear += _fails_clearly(server, nights, stage)
                server.start()
                same += _rerun(nights, digest)
    return Measured(
        figures=f"the second job {'left' if left else 'DID NOT LEAVE'}; {clear} of {len(STAGES)} "
        f"outages failed clearly, {same} reruns gave the same bytes",
        held=left and clear == same == len(STAGES),
    )


def _leaves(nights: Nights) -> bool:
    first = OneTrainer(nights.dsn)
    try:
        assert first.holds()
        nights.here()
    except Conflict as error:
        return "under way" in error.message
    finally:
        first.close()
    return False


def _fails_clearly(server: PostgresServer, nights: Nights, stage: str) -> bool:
    try:
        nights.here(lambda step: server.kill() if step == stage else None)
    except Unavailable as error:
        return "Postgres at" in error.message
    return False
