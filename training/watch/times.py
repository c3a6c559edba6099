"""How long the watcher waits: for answers to settle, between idle writes, after a failure."""

from __future__ import annotations

from datetime import timedelta

from router.store.arrivals import CONTINUED_WITHIN
from training.watch.plan import STATEMENT_TIMEOUT_S

SETTLED_AFTER = CONTINUED_WITHIN + timedelta(seconds=5)
IDLE_WRITE = timedelta(minutes=1)
PAUSE_AFTER_FAILURE = timedelta(minutes=1)
PAUSE_AFTER_TIMEOUT = PAUSE_AFTER_FAILURE + timedelta(seconds=STATEMENT_TIMEOUT_S)
"""Counted from when the turn began, which the statement took as long of."""
