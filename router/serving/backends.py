"""The worker's board of backends: how each model does now, in every decision's conditions.

Reports cost their caller an append to a queue. A thread looks up their decisions, hears
what other workers saw, and swaps in a new snapshot twice a second, so that a decision reads
one reference while all is well.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from router.conditions import Backend
from router.policy.backends import FIRST_PROBE_S, PROBED, Backends
from router.policy.flights import Flight, Flights
from router.policy.load import first_tokens, usual_median_s
from router.serving.exchange import Ending, Exchange, News, Probe, Sighting
from router.serving.sightings import Reported, Sightings
from router.serving.telemetry import Logger, Metrics
from router.types import Decision

TURN_S = 0.5
MOST_WAITING, MOST_LOOKED_UP = 4_096, 64
MOST_ENDINGS_TOLD = 128
OFFER_PAUSE_S = 0.1

NORMAL: Mapping[str, Backend] = {}
"""All do as predicted. No snapshot is ever changed."""


class Board:
    """What decisions read (`now`), and what is said of attempts (`report`, `routed`).

    Those are for the event loop and do no I/O; `turn` is for the board's own thread. More
    reports in a turn than can be looked up are sampled, those of probes first.
    """

    def __init__(
        self,
        sightings: Sightings,
        exchange: Exchange,
        metrics: Metrics,
        log: Logger,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sightings, self._exchange = sightings, exchange
        self._metrics, self._log, self._clock = metrics, log, clock
        self._backends, self._flights = Backends(), Flights()
        self._off, self._due = NORMAL, dict[str, float]()
        self._offered: dict[str, float] = {}
        self._reports: deque[Reported] = deque(maxlen=MOST_WAITING)
        self._taken: deque[Probe] = deque()
        self._began: deque[tuple[UUID, Decision, datetime]] = deque(maxlen=MOST_WAITING)
        self._ended: deque[Ending] = deque(maxlen=MOST_WAITING)
        self._probing: deque[UUID] = deque(maxlen=MOST_WAITING)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="backends", daemon=True)

    def now(self, now_s: float, *, probes: bool = True) -> Mapping[str, Backend]:
        """The models that do not do as predicted, for one decision at `now_s`.

        One that is due to be probed is named as if it did. A decision that heeds it is to
        be handed to `taken` before the next is asked for.
        """
        off = self._off
        if not off or not probes:
            return off
        due = [model for model in off if self._may_probe(model, now_s)]
        for model in due:
            self._offered[model] = now_s + OFFER_PAUSE_S
        return {**off, **dict.fromkeys(due, PROBED)} if due else off

    def _may_probe(self, model: str, now_s: float) -> bool:
        due_s = self._due.get(model)
        return due_s is not None and max(due_s, self._offered.get(model, 0.0)) <= now_s

    def routed(self, tenant_id: UUID, decision: Decision, now: datetime) -> None:
        """Notes which attempt a decision begins."""
        self._began.append((tenant_id, decision, now))
        if decision.conditions.backends:
            self.taken(decision, now.timestamp())

    def taken(self, decision: Decision, at_s: float) -> None:
        """Notes which model a decision took, if that makes it a probe."""
        model, named = decision.arm.model, decision.conditions.backends
        if named and named.get(model) == PROBED:
            self._offered[model] = at_s + FIRST_PROBE_S
            self._taken.append(Probe(model=model, at_s=at_s, decision_id=decision.decision_id))

    def report(self, said: Reported) -> None:
        """Takes in what a caller said of an attempt."""
        if not said.attempt:
            latency_s = None if said.failed else said.latency_s
            ended = Ending(decision_id=said.decision_id, told_s=said.now_s, latency_s=latency_s)
            self._ended.append(ended)
        if said.failed or said.latency_s is not None:
            self._reports.append(said)

    def turn(self, now_s: float) -> None:
        """Takes in all that was said, here and by the other workers; blocks."""
        probes = [self._taken.popleft() for _ in range(len(self._taken))]
        for probe in probes:
            self._metrics.probed(probe.model)
        heard = self._exchange.hear()
        self._probing.extend(
            each.decision_id for each in (*probes, *heard) if isinstance(each, Probe)
        )
        news: list[News] = [*probes, *filter(None, map(self._sightings.of, self._waiting()))]
        self._fly(heard)
        self._exchange.tell((*news, *self._endings()))
        self._take_in((*news, *heard))
        self._flights.forget(now_s)
        self._backends.awaits(self._flights.due(now_s), now_s)
        self._publish(now_s)

    def _fly(self, heard: Sequence[News]) -> None:
        """Follows what began here, and what is told elsewhere of its end."""
        for _ in range(len(self._began)):
            tenant_id, decision, now = self._began.popleft()
            model, tenant, at_s = decision.arm.model, tenant_id.hex, now.timestamp()
            if self._flights.wants(model, tenant, at_s):
                self._flights.began(_flight(decision, tenant, at_s))
        for each in heard:
            if isinstance(each, Ending):
                self._flights.ended(each.decision_id, each.told_s, each.latency_s)

    def _endings(self) -> Sequence[Ending]:
        """What was told here of attempts that are not followed here: another worker's, maybe."""
        told = [self._ended.popleft() for _ in range(len(self._ended))]
        unknown = [
            each
            for each in told
            if not self._flights.ended(each.decision_id, each.told_s, each.latency_s)
        ]
        return unknown[-MOST_ENDINGS_TOLD:]

    def _waiting(self) -> Sequence[Reported]:
        """Reports to look up."""
        reports = [self._reports.popleft() for _ in range(len(self._reports))]
        if len(reports) <= MOST_LOOKED_UP:
            return reports
        probing = set(self._probing)
        first = [each for each in reports if each.decision_id in probing]
        return first + reports[:: -(-len(reports) // MOST_LOOKED_UP)]

    def _take_in(self, news: Sequence[News]) -> None:
        for each in news:
            if isinstance(each, Probe):
                self._backends.probed(each.model, each.at_s)
        sighted = [each for each in news if isinstance(each, Sighting)]
        for model in {each.model for each in sighted}:
            self._backends.saw(model, [each.seen for each in sighted if each.model == model])

    def _publish(self, now_s: float) -> None:
        self._due = dict(self._backends.due())
        off = self._backends.off_normal(now_s)
        for model in {*off, *self._off}:
            backend = off.get(model, PROBED)
            self._metrics.backend(model, backend)
            if backend.available != self._off.get(model, PROBED).available:
                self._log.warning("backend", model=model, available=backend.available)
        self._off = off or NORMAL

        self._show(now_s)

    def _show(self, now_s: float) -> None:
        """Shows what recent attempts of each model showed, and how many are under way."""
        under_way = self._flights.under_way(now_s)
        for model, live in self._backends.live().items():
            self._metrics.live(model, live, under_way.get(model, 0))

    def start(self) -> None:
        """Begins to follow what is said."""
        self._thread.start()

    def close(self) -> None:
        """Stops."""
        self._stopping.set()
        self._thread.join(timeout=2.0)

    def _follow(self) -> None:
        while not self._stopping.wait(TURN_S):
            try:
                self.turn(self._clock())
            except Exception as error:  # noqa: BLE001 (the thread must live)
                self._log.error("backends failed", kind=type(error).__name__, exc_info=True)


def _flight(decision: Decision, tenant: str, at_s: float) -> Flight:
    """The attempt that a decision begins."""
    arm, place, predicted = decision.arm, decision.choice.index, decision.predictions
    backend = decision.conditions.backends.get(arm.model, PROBED)
    firsts = first_tokens(arm, backend.first_token_spread)[0]
    expected_s = float(predicted.latency_p50_s[place])
    return Flight(
        attempt=decision.decision_id,
        model=arm.model,
        tenant=tenant,
        began_s=at_s,
        median_s=usual_median_s(expected_s, firsts, backend),
        expected_s=expected_s,
    )
