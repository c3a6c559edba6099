"""One thread for the numeric libraries while a policy is learnt.

Their idle threads spin: where a server keeps the cores busy, a fit that waits for them takes
up to six times as long. One thread also sums in one order, whatever the machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def one_thread() -> Iterator[None]:
    """Limits the process's OpenMP and BLAS pools to one thread; decorates a function too."""
    with threadpool_limits(limits=1):
        yield
