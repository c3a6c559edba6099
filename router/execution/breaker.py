"""A circuit breaker: leaves a backend alone that fails, and tries it again now and then."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

FAILURES = 5
REST_S = 2.0
LONGEST_REST_S = 60.0


class Breaker:
    """Opens after so many failures in a row, for a rest that doubles with each failed probe.

    No library: those that are typed and kept up count per process and can't be told the time.
    """

    def __init__(
        self,
        *,
        failures: int = FAILURES,
        rest_s: float = REST_S,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._most, self._first_rest_s, self._clock = failures, rest_s, clock
        self._failures, self._rest_s = 0, rest_s
        self._until_s: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether calls are kept away, but for probes."""
        return self._until_s is not None

    def admits(self) -> bool:
        """Whether a call may be made now; after a rest the first one may, as its probe."""
        if self._until_s is None:
            return True
        if self._clock() < self._until_s:
            return False
        self._until_s = self._clock() + self._rest_s
        return True

    def succeeded(self) -> None:
        """Closes it."""
        self._failures, self._rest_s, self._until_s = 0, self._first_rest_s, None

    def failed(self) -> None:
        """Counts a failure; opens it, or has it rest for longer after a probe."""
        self._failures += 1
        if self._until_s is not None:
            self._rest_s = min(2 * self._rest_s, LONGEST_REST_S)
        if self._failures >= self._most:
            self._until_s = self._clock() + self._rest_s
