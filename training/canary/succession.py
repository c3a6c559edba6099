"""Whether a canary that waits gives its place to a newer policy that passed the gate."""

from __future__ import annotations

from datetime import datetime, timedelta

from router.store.seams import Registry
from router.types import PolicyRecord

PATIENCE = timedelta(days=3)
"""A canary that grows or ends within it is never disturbed; one that cannot tell blocks nobody."""


def outwaited(canary: PolicyRecord, now: datetime) -> timedelta | None:
    """How long a canary has stood at its share, if too long; None while it keeps its place.

    One that passed the gate gives way once the watcher has been unable to tell for
    `PATIENCE`. A shadow, one that the gate kept back, and one that no watcher has looked at
    were put there by a person, who alone ends them.
    """
    passed = (canary.summary.get("gate") or {}).get("promote")
    since = (canary.canary or {}).get("at_share_since")
    if not (canary.share and passed and since):
        return None
    stood = now - datetime.fromisoformat(since)
    return stood if stood >= PATIENCE else None


def make_way(registry: Registry, newer: int, *, now: datetime, actor: str) -> None:
    """Ends a canary that has waited too long for the newer policy. Raises Conflict if it serves."""
    waiting = registry.on_trial()
    if waiting is None or waiting.version == newer:
        return
    stood = outwaited(waiting, now)
    if stood is not None:
        why = f"no verdict in {stood.days} days at {waiting.share:.0%}"
        comment = f"{why}; policy {newer} passed the gate and takes its place"
        registry.reject(waiting.version, actor=actor, comment=comment)
