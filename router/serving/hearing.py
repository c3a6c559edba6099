"""Finds out what attempts cost of which this worker was not told."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from uuid import UUID

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
                unnamed = self._costs.unnamed(tenant_id, {each.key[1] for each in ours})
            except Exception as error:  # noqa: BLE001 (others' costs are read all the same)
                self._log.warning("costs not read", kind=type(error).__name__, error=str(error))
                self._wait(ours, now_s)
                continue
            with self._lock:
                self._find(tenant_id, unnamed, now_s)
                self._heard(ours, known, unnamed, now_s)

    def _wait(self, asked: Sequence[Reservation], now_s: float) -> None:
        """Ends nothing while Postgres is away."""
        with self._lock:
            for reservation in asked:
                self._reservations.wait(reservation, now_s)

    def _find(self, tenant_id: UUID, unnamed: Mapping[Attempt, float], now_s: float) -> None:
        """Opens what callers began by themselves after a first attempt of this worker's."""
        for decision_id, attempt in unnamed:
            key = (tenant_id, decision_id, attempt)
            first = self._reservations.get((tenant_id, decision_id, 0))
            if first and not (self._reservations.get(key) or self._reservations.ended(key)):
                opened = self._reservations.open_unnamed(key, first, first.accounts, now_s)
                opened.read(micro_usd(unnamed[decision_id, attempt]), now_s)

    def _heard(
        self,
        asked: Sequence[Reservation],
        known: Mapping[Attempt, float],
        unnamed: Mapping[Attempt, float],
        now_s: float,
    ) -> None:
        """Takes in what was read; what Continue named after all is not counted here."""
        for reservation in asked:
            attempt = reservation.key[1:]
            ends = self._ends(reservation, now_s)
            cost_usd = (unnamed if reservation.unnamed else known).get(attempt)
            if cost_usd is None and ends and reservation.unnamed:
                cost_usd = 0.0
            if cost_usd is not None:
                reservation.read(micro_usd(cost_usd), now_s)
            if ends:
                self._reservations.close(reservation)
            else:
                self._reservations.wait(reservation, now_s)

    def _ends(self, reservation: Reservation, now_s: float) -> bool:
        return self._reservations.crowded or now_s - reservation.since_s >= TIMEOUT_S
