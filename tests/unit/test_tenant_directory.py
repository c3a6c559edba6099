"""What a worker remembers of its tenants is never older than what it has read."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from uuid import UUID, uuid4

import pytest

from router.serving.tenants import TenantDirectory
from router.serving.threads import Threads
from router.slo import Slo
from router.store.memory import MemoryPromises, MemorySlos, MemoryTenants


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
