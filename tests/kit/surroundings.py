"""What holds around a worker's decisions, where nothing is out of the ordinary."""

from __future__ import annotations

import tempfile
from pathlib import Path

from router.serving.backends import Board
from router.serving.conversations import Conversations
from router.serving.exchange import Exchange
from router.serving.sightings import Sightings
from router.serving.surroundings import Surroundings
from router.serving.telemetry import Metrics, logger
from router.serving.tenants import TenantDirectory


def surroundings(tenants: TenantDirectory, metrics: Metrics) -> Surroundings:
    """Those of one worker that has heard of no backend and keeps no budgets."""
    exchange = Exchange(Path(tempfile.mkdtemp()), 0, 1)
    board = Board(Sightings([]), exchange, metrics, logger())
    return Surroundings(tenants=tenants, backends=board, purses=None, conversations=Conversations())
