"""The reload thread outlives faults, and tries again what the machine failed at."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry

from router.bundle.embedder import load_embedder
from router.serving.reload import Bundles, Reloader
from router.serving.telemetry import Metrics, logger
from router.serving.tenants import TenantDirectory
from router.serving.threads import Threads
from router.store.memory import (
    MemoryCatalog,
    MemoryChanges,
    MemoryPromises,
    MemoryRegistry,
    MemorySlos,
    MemoryTenants,
)
from tests.kit.bundles import TRUSTED
from tests.kit.policies import catalog
from tests.kit.serving_bundles import bundle


class FaultyChanges(MemoryChanges):
    """Fails the first times that it is waited on."""

    faults = 0

    def wait(self, timeout_s: float) -> bool:
        if self.faults:
            self.faults -= 1
            raise ValueError("nobody foresaw this")
        return super().wait(timeout_s)


class Place:
    """A reloader over stores in memory, with one registered policy."""

    def __init__(self) -> None:
        self.changes = FaultyChanges()
        self.catalog = MemoryCatalog(self.changes)
        self.registry = MemoryRegistry(self.changes)
        for model in catalog().models:
            self.catalog.put_model(model, actor="test")
        for arm in catalog().arms:
            self.catalog.put_arm(arm, enabled=True, actor="test")
        self.registry.register(bundle(catalog()), {}, actor="test")

    @contextmanager
    def follow(self) -> Iterator[Reloader]:
        threads = Threads(5.0)
        reloader = Reloader(
            catalog=self.catalog,
            registry=self.registry,
            bundles=Bundles(self.registry, lambda: TRUSTED, load_embedder()),
            changes=self.changes,
            tenants=TenantDirectory(MemoryTenants(), MemorySlos(), MemoryPromises(), threads),
            metrics=Metrics(CollectorRegistry()),
            log=logger(),
        )
        reloader.start()
        yield reloader
        reloader.close()
        threads.close()


def eventually(check: Callable[[], bool], timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def version(reloader: Reloader) -> int:
    return reloader.current.state.policy.version


@contextmanager
def no_temporary_files(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """There is no place for temporary files until what it gives is called."""
    before = tempfile.tempdir

    def mend() -> None:
        tempfile.tempdir = before

    tempfile.tempdir = str(tmp_path / "gone")
    try:
        yield mend
    finally:
        mend()


def test_at_start_the_static_policy_serves_until_the_policy_can_be_tried(
    tmp_path: Path,
) -> None:
    place = Place()
    place.registry.promote(1, actor="test")
    with no_temporary_files(tmp_path) as mend, place.follow() as reloader:
        assert version(reloader) == 0
        mend()
        eventually(lambda: version(reloader) == 1)


def test_the_old_policy_serves_until_the_new_one_can_be_tried(tmp_path: Path) -> None:
    place = Place()
    place.registry.promote(1, actor="test")
    with place.follow() as reloader:
        assert version(reloader) == 1
        archive = bundle(catalog(), mean_cost_usd=0.5)
        with no_temporary_files(tmp_path) as mend:
            second = place.registry.register(archive, {}, actor="test").version
            place.registry.promote(second, actor="test")
            time.sleep(1.5)
            assert version(reloader) == 1
            mend()
            eventually(lambda: version(reloader) == second)


def test_the_thread_outlives_an_unforeseen_error() -> None:
    place = Place()
    with place.follow() as reloader:
        place.changes.faults = 1
        eventually(lambda: not place.changes.faults)
        place.registry.promote(1, actor="test")
        eventually(lambda: version(reloader) == 1)


def side(reloader: Reloader) -> tuple[int, int, float]:
    state = reloader.current.state
    return state.policy.version, state.canary.policy.version if state.canary else 0, state.share


def test_a_canary_joins_follows_its_share_and_leaves_as_the_registry_says() -> None:
    place = Place()
    place.registry.promote(1, actor="test")
    second = place.registry.register(bundle(catalog(), mean_cost_usd=0.5), {}, actor="test").version
    place.registry.canary(second, share=0.0, actor="test")
    with place.follow() as reloader:
        assert side(reloader) == (1, 0, 0.0)
        for share in (0.01, 0.25):
            place.registry.canary(second, share=share, actor="test")
            eventually(lambda share=share: side(reloader) == (1, second, share))  # type: ignore[misc]
        place.catalog.put_arm(catalog().arms[0], enabled=False, actor="test")
        eventually(lambda: len(reloader.current.state.arms) == len(catalog().arms) - 1)
        assert reloader.current.state.canary is not None
        assert reloader.current.state.canary.keys == reloader.current.state.keys
        place.registry.promote(second, actor="test")
        eventually(lambda: side(reloader) == (second, 0, 0.0))


def test_a_server_that_starts_beside_a_canary_finds_it_and_one_that_cannot_be_tried_waits(
    tmp_path: Path,
) -> None:
    place = Place()
    place.registry.promote(1, actor="test")
    second = place.registry.register(bundle(catalog(), mean_cost_usd=0.5), {}, actor="test").version
    place.registry.canary(second, share=0.5, actor="test")
    with place.follow() as reloader:
        eventually(lambda: side(reloader) == (1, second, 0.5))
    with no_temporary_files(tmp_path) as mend, place.follow() as reloader:
        time.sleep(1.5)
        assert side(reloader)[1] == 0
        mend()
        eventually(lambda: side(reloader) == (1, second, 0.5))
