"""Coverage of long tests by samples: on CPython 3.11, tracing doubles what a test takes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from coverage import Coverage

WHOLE_S, TRACED_S, UNTRACED_S = 0.3, 0.03, 0.27
"""Seconds of the process's own time: how long all is traced, and the samples afterwards."""


@contextmanager
def sampled(whole_s: float = WHOLE_S) -> Iterator[None]:
    """Traces what is run at first, then a tenth of the time; so the figure is a lower bound.

    Does nothing where coverage is not measured. For the main thread alone.
    """
    coverage = Coverage.current()
    if coverage is None:
        yield
        return
    tracing = True

    def turn(_signal: int, _frame: FrameType | None) -> None:
        nonlocal tracing
        coverage.stop() if tracing else coverage.start()
        tracing = not tracing
        signal.setitimer(signal.ITIMER_VIRTUAL, TRACED_S if tracing else UNTRACED_S)

    signal.signal(signal.SIGVTALRM, turn)
    signal.siginterrupt(signal.SIGVTALRM, False)  # noqa: FBT003 (takes no names)
    signal.setitimer(signal.ITIMER_VIRTUAL, whole_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, signal.SIG_IGN)
        if not tracing:
            coverage.start()
