"""Which failed calls are made again, and when."""

from __future__ import annotations

import random
from dataclasses import dataclass

from router.execution.backend import BackendFailed
from router.execution.calls import Failure

SAFE = frozenset({Failure.RATE_LIMITED, Failure.OVERLOADED, Failure.UNREACHABLE})
"""Failures after which nothing was generated, so that nothing is paid for twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """At most `most` more tries, after waits drawn from 0 to a bound that doubles."""

    most: int = 2
    first_s: float = 0.25
    longest_s: float = 8.0

    def wait_s(
        self, error: BackendFailed, tries: int, left_s: float, rng: random.Random
    ) -> float | None:
        """How long to wait after so many tries, None to give up.

        What the provider asked for is waited at least; longer than is left is no wait at all.
        """
        if error.failure not in SAFE or tries > self.most:
            return None
        drawn_s = rng.uniform(0.0, min(self.first_s * 2 ** (tries - 1), self.longest_s))
        wait_s = drawn_s + (error.retry_after_s or 0.0)
        return wait_s if wait_s < left_s else None
