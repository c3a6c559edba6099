"""What the workers of one machine tell each other of the backends: a small file of each.

A worker replaces its own file whole and reads those of the others, about twice a second. A
file needs no locks, no database and no one who is alive; one that is damaged or gone only
means that less is known. Other machines reach backends by other ways, so that what is seen
there stays there.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import structlog

from router.policy.seen import Seen

MOST_TOLD = 512

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What an attempt of a model showed."""

    model: str
    seen: Seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A decision that took a model as a probe, in epoch seconds."""

    model: str
    at_s: float
    decision_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """A first attempt of another worker's that was reported here, in epoch seconds."""

    decision_id: UUID
    told_s: float
    latency_s: float | None


News = Sighting | Probe | Ending


class Exchange:
    """Tells the other workers and hears from them. Blocks; not thread-safe.

    Each piece of news is heard once; the last 512 of a worker are kept for the others.
    """

    def __init__(self, directory: Path, worker: int, workers: int) -> None:
        paths = [directory / f"backends-{each}.json" for each in range(workers)]
        self._own = paths.pop(worker)
        self._others = [_Neighbour(path) for path in paths]
        self._life = os.urandom(8).hex()
        self._told: deque[list[Any]] = deque(maxlen=MOST_TOLD)
        self._count = 0

    def tell(self, news: Sequence[News]) -> None:
        """Writes what is new for the others; with no others, or nothing new, does nothing."""
        if not news or not self._others:
            return
        for each in news:
            self._count += 1
            self._told.append([self._count, *_row(each)])
        fresh = self._own.with_suffix(".new")
        try:
            fresh.write_bytes(orjson.dumps({"life": self._life, "told": list(self._told)}))
            fresh.replace(self._own)
        except OSError as error:
            _log.warning("backends not told", error=str(error))

    def hear(self) -> list[News]:
        """What the others have told since the last time."""
        return [news for other in self._others for news in other.hear()]


class _Neighbour:
    """One other worker's file, and how far it was read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed_ns = 0
        self._life, self._heard = "", 0

    def hear(self) -> Iterable[News]:
        try:
            changed_ns = self._path.stat().st_mtime_ns
            if changed_ns == self._changed_ns:
                return []
            said = orjson.loads(self._path.read_bytes())
            news = self._newer(said["life"], said["told"])
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError, KeyError, IndexError) as error:
            _log.warning("backends not heard", file=self._path.name, kind=type(error).__name__)
            return []
        self._changed_ns = changed_ns
        return news

    def _newer(self, life: str, told: Sequence[Sequence[Any]]) -> list[News]:
        """What was not heard yet; a worker that was started anew counts from 1 again."""
        heard = self._heard if life == self._life else 0
        news = [_news(row[1:]) for row in told if row[0] > heard]
        self._life, self._heard = life, max((row[0] for row in told), default=heard)
        return news


def _row(news: News) -> list[Any]:
    if isinstance(news, Probe):
        return [news.model, news.at_s, news.decision_id.hex]
    if isinstance(news, Ending):
        return [news.decision_id.hex, news.told_s, news.latency_s, "ended"]
    seen = news.seen
    return [
        *(news.model, seen.ended_s, seen.started_s, seen.failed, seen.log_ratio, seen.tenant),
        *(seen.median_s, seen.first_token_s, seen.firsts, seen.tokens_per_s),
    ]


def _news(row: Sequence[Any]) -> News:
    if len(row) == 3:
        return Probe(model=str(row[0]), at_s=float(row[1]), decision_id=UUID(hex=row[2]))
    if len(row) == 4:
        return Ending(decision_id=UUID(hex=row[0]), told_s=float(row[1]), latency_s=_known(row[2]))
    model, ended_s, started_s, failed, ratio, tenant, median_s, first_token_s, firsts, rate = row
    seen = Seen(
        ended_s=float(ended_s),
        started_s=float(started_s),
        failed=bool(failed),
        log_ratio=_known(ratio),
        tenant=str(tenant),
        median_s=_known(median_s),
        first_token_s=_known(first_token_s),
        firsts=float(firsts),
        tokens_per_s=_known(rate),
    )
    return Sighting(model=str(model), seen=seen)


def _known(value: Any) -> float | None:
    return None if value is None else float(value)
