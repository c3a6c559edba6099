"""What holds around a worker's decisions, where nothing is out of the ordinary."""

from __future__ import annotations

from pathlib import Path

from router.serving.backends import Board
from router.serving.budgets import Wallets
from router.serving.conversations import Conversations
from router.serving.exchange import Exchange
from router.serving.sightings import Sightings
from router.serving.surroundings import Surroundings
from router.serving.telemetry import Metrics, logger
from router.serving.tenants import TenantDirectory
from router.serving.threads import Threads
from router.store.costs import MemoryCosts
from router.store.memory import MemoryBudgets, MemoryLog, MemoryOutbox

NOWHERE = Path("no-such-folder")
"""Where the only worker of a machine tells others nothing."""


def surroundings(tenants: TenantDirectory, metrics: Metrics, wallets: Wallets) -> Surroundings:
    """Those of one worker that has heard of no backend."""
    board = Board(Sightings([]), Exchange(NOWHERE, 0, 1), metrics, logger())
    return Surroundings(
        tenants=tenants, backends=board, wallets=wallets, conversations=Conversations()
    )


def memory_wallets(threads: Threads, metrics: Metrics) -> Wallets:
    """Wallets of one worker over a store of its own in memory."""
    costs = MemoryCosts(MemoryLog(MemoryOutbox()))
    return Wallets(MemoryBudgets(), costs, threads, metrics, logger())
