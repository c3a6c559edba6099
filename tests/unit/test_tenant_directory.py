"""What a worker remembers of its tenants is never older than what it has read."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Iterator, Sequence
from uuid import UUID, uuid4

import pytest
from prometheus_client import CollectorRegistry

from router.conditions import MonitorState
from router.serving.telemetry import Metrics
from router.serving.tenants import TenantDirectory
from router.serving.threads import Threads
from router.slo import AccuracyScope, Slo
from router.store.memory import MemoryPromises, MemorySlos, MemoryTenants
from tests.kit.records import certificate, monitor


class SlowSlos(MemorySlos):
    """Holds its first answer back until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.let_go = threading.Event(), threading.Event()

    def current(self, tenant_id: UUID) -> Sequence[Slo]:
        answer = super().current(tenant_id)
        if not self.asked.is_set():
            self.asked.set()
            assert self.let_go.wait(10)
        return answer


@pytest.fixture
def threads() -> Iterator[Threads]:
    threads = Threads(10.0)
    yield threads
    threads.close()


def test_a_slow_old_read_of_slos_never_replaces_a_newer_one(threads: Threads) -> None:
    slos, tenant_id = SlowSlos(), uuid4()
    directory = TenantDirectory(MemoryTenants(), slos, MemoryPromises(), threads)
    slow = threading.Thread(target=lambda: asyncio.run(load(directory, tenant_id)))
    slow.start()
    assert slos.asked.wait(10)
    slos.put(tenant_id, Slo(name="fresh", min_accuracy=0.5), base_version=None, actor="test")
    refreshing = threading.Thread(target=directory.refresh_slos)
    refreshing.start()
    refreshing.join(0.1)
    slos.let_go.set()
    for thread in (slow, refreshing):
        thread.join()
    remembered = directory.slos(tenant_id)
    assert remembered is not None
    assert remembered["fresh"].min_accuracy == 0.5


async def load(directory: TenantDirectory, tenant_id: UUID) -> None:
    await directory.load_slos(tenant_id)


class Floors:
    """A directory whose floors are shown, and what is shown of the slo `chat`."""

    def __init__(self, threads: Threads) -> None:
        self.tenant_id, self.slos, self.promises = uuid4(), MemorySlos(), MemoryPromises()
        self.registry = CollectorRegistry()
        self._directory = TenantDirectory(
            MemoryTenants(),
            self.slos,
            self.promises,
            threads,
            floors=Metrics(self.registry).floors,
        )

    def put(self, slo: Slo) -> int:
        """Sets an slo; returns its version."""
        return self.slos.put(self.tenant_id, slo, base_version=None, actor="test").version

    def shown(self, slo: str = "chat") -> tuple[float | None, float | None]:
        """The floor's state and whether it is certified, after a refresh."""
        asyncio.run(load(self._directory, self.tenant_id))
        labels = {"tenant_id": str(self.tenant_id), "slo": slo}
        state = self.registry.get_sample_value("leadline_floor_state", labels)
        return state, self.registry.get_sample_value("leadline_floor_certified", labels)


def test_the_metrics_show_a_floors_certificate_and_its_monitor(threads: Threads) -> None:
    floors = Floors(threads)
    version = floors.put(Slo(name="chat", min_accuracy=0.5))
    assert floors.shown() == (0, 0)
    body = {"status": "certified", "value_usd": 0.5}
    versions = {"slo_version": version, "policy_version": 7}
    record = certificate(floors.tenant_id, "chat", body=body, **versions)
    floors.promises.write_certificate(record, actor="test")
    assert floors.shown() == (0, 1)
    before = None
    for shown, state in ((1, MonitorState.AT_RISK), (2, MonitorState.BROKEN)):
        told = monitor(floors.tenant_id, "chat", state=state, body=versions)
        floors.promises.write_monitor(told, before=before, actor="test")
        before = told
        assert floors.shown() == (shown, 1)
    floors.put(Slo(name="chat", min_accuracy=0.6))
    assert floors.shown() == (0, 0)


def test_the_metrics_show_no_slo_without_a_floor_on_the_average(threads: Threads) -> None:
    floors = Floors(threads)
    floors.put(Slo(name="plain"))
    floors.put(Slo(name="each", min_accuracy=0.5, accuracy_scope=AccuracyScope.PER_QUERY))
    assert floors.shown("plain") == floors.shown("each") == (None, None)
    floors.put(Slo(name="chat", min_accuracy=0.5))
    assert floors.shown() == (0, 0)
    floors.put(Slo(name="chat"))
    assert [value is not None and math.isnan(value) for value in floors.shown()] == [True, True]
