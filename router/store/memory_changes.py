"""In-memory twin of the announcements of changes."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from router.store.seams import Topic


class MemoryChanges:
    """The Changes seam inside one process; the other twins announce to it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._revisions = dict.fromkeys(Topic, 0)
        self._heard = 0
        self._closed = False

    def announce(self, topic: Topic) -> int:
        """Counts a change and wakes a `wait`; returns the topic's revision."""
        with self._changed:
            self._revisions[topic] += 1
            self._changed.notify_all()
            return self._revisions[topic]

    def revisions(self) -> Mapping[Topic, int]:
        """As the seam says."""
        with self._changed:
            return dict(self._revisions)

    def wait(self, timeout_s: float) -> bool:
        """As the seam says."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._count() > self._heard, timeout_s)
            news = self._count() > self._heard
            self._heard = self._count()
            return news and not self._closed

    def close(self) -> None:
        """As the seam says."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _count(self) -> int:
        return sum(self._revisions.values())
