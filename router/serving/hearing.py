"""Finds out what attempts cost of which this worker was not told."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from router.serving.reservations import TIMEOUT_S, Reservation, Reservations, micro_usd
from router.serving.telemetry import Logger
from router.store.costs import Attempt, Costs

MOST_ASKED = 1_000


class Hearing:
    """Asks Postgres, where the outcomes of all workers arrive; `lock` guards reservations."""

    def __init__(
        self, costs: Costs, reservations: Reservations, lock: threading.Lock, log: Logger
    ) -> None:
        self._costs, self._reservations, self._lock, self._log = costs, reservations, lock, log

    def turn(self, now_s: float) -> None:
        """Reads what attempts cost of which this worker was not told."""
        with self._lock:
            due = list(self._reservations.due(now_s, MOST_ASKED))
        for tenant_id in {each.key[0] for each in due}:
            ours = [each for each in due if each.key[0] == tenant_id]
            try:
                known = self._costs.known(tenant_id, [each.key[1:] for each in ours])
            except Exception as error:  # noqa: BLE001 (others' costs are read all the same)
                self._log.warning("costs not read", kind=type(error).__name__, error=str(error))
                known = None
            self._heard(ours, known, now_s)

    def _heard(
        self, asked: Sequence[Reservation], known: Mapping[Attempt, float] | None, now_s: float
    ) -> None:
        """Takes in what was read; None, while Postgres is away, ends nothing."""
        with self._lock:
            for reservation in asked:
                cost_usd = None if known is None else known.get(reservation.key[1:])
                if cost_usd is not None:
                    reservation.read(micro_usd(cost_usd), now_s)
                if known is not None and self._ends(reservation, now_s):
                    self._reservations.close(reservation)
                else:
                    self._reservations.wait(reservation, now_s)

    def _ends(self, reservation: Reservation, now_s: float) -> bool:
        return self._reservations.crowded or now_s - reservation.since_s >= TIMEOUT_S
