"""Work of the watcher whose failure keeps no other work waiting: it rests for a while."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import structlog

from router.errors import Unavailable
from router.store.watching import took_too_long
from training.watch.times import PAUSE_AFTER_FAILURE, PAUSE_AFTER_TIMEOUT

Log = structlog.typing.FilteringBoundLogger
Rest = Callable[[timedelta, str], None]
"""Is told for how long to rest, and why."""

Result = TypeVar("Result")


def spared(
    work: Callable[[], Result],
    rest: Rest,
    *,
    log: Log,
    failed: str,
    passing: tuple[type[Exception], ...] = (),
) -> Result | None:
    """What the work returns; None where it failed, which `rest` is told of.

    Raises Unavailable when Postgres is away, and errors that are `passing`. The log has
    `failed` with the traceback of what nobody expected.
    """
    try:
        return work()
    except Unavailable as error:
        if not took_too_long(error):
            raise
        rest(PAUSE_AFTER_TIMEOUT, error.message)
    except passing:
        raise
    except Exception as error:
        rest(PAUSE_AFTER_FAILURE, type(error).__name__)
        log.debug(failed, exc_info=True)
    return None
