"""How each model's backend does now, from what attempts showed of it. Pure: time is an argument.

Load. The slowdown is estimated, as `slowdown.py` says, from a model's last 64 attempts. Beyond
them the oldest goes of the tenant that has most, so that none drives out what others saw. Where
first tokens are told, how much later they come than usual (`firsts.py`) is estimated first,
and the slowdown is that of the rest: `load.py` puts both together again. Attempts that
should have ended and have not (`flights.py`) may show more than those that have.

Circuit. A model whose attempts fail, at least three and at least half by such weights,
is open: not available. Where another tenant's attempts mostly do well at the same time it
is not, since then it is not the backend that fails but how it is called. Two attempts in
turn that began after it opened and did not fail close it.

Probes. Whom nobody uses nobody measures. So a model that is open, or slow, is named as if
it did as predicted in the conditions of single decisions: one that then takes it is a
probe. There is at most one per interval, which is 2 s at first, doubles with each probe up
to 20 s, and is 2 s again once an attempt was clearly quicker than the trouble; and none
while other attempts show how the backend does. Which decision is a probe depends on times
and on earlier outcomes, never on its own query or draws. So it is an ordinary decision
under the conditions that its row holds, and its propensity given those is exact. After ten
minutes without any news a model counts as normal.
"""

from __future__ import annotations

import math
from bisect import insort
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from router.conditions import Backend
from router.policy.firsts import UsualFirsts
from router.policy.flights import Due
from router.policy.load import loaded_median_s
from router.policy.measured import Live, failed_share, live, measured, overdue, ratio
from router.policy.seen import Seen
from router.policy.slowdown import HALF_LIFE_S

MOST_KEPT = 64
FAILED_SHARE, LEAST_FAILED, GOOD_TO_CLOSE = 0.5, 3, 2
FIRST_PROBE_S, LONGEST_PROBE_S = 2.0, 20.0
CLEARLY_QUICKER = 0.75
FORGOTTEN_S = 600.0

PROBED = Backend()
"""What a model that is probed is named with: as if it did as predicted."""


class Track:
    """One model's backend: what was seen of it lately, and when to probe it."""

    def __init__(self) -> None:
        self.load = self._measured = PROBED
        self.opened_s: float | None = None
        self.probes = 0
        self._kept: list[Seen] = []
        self._usual = UsualFirsts()
        self._good = 0
        self._interval_s = FIRST_PROBE_S
        self._probed_s = self._news_s = self._overdue_s = -math.inf

    @property
    def troubled(self) -> bool:
        """Whether the backend is slow or not available, so that it needs probes."""
        later = self.load.first_token_s > self.load.usual_first_token_s
        return self.opened_s is not None or self.load.slowdown > 1.0 or later

    def backend(self, now_s: float) -> Backend:
        """How it does, the probes aside."""
        if now_s - max(self._news_s, self._probed_s, self._overdue_s) > FORGOTTEN_S:
            return PROBED
        return replace(self.load, available=self.opened_s is None)

    @property
    def due_s(self) -> float:
        """When it may be probed next; infinite while there is no need."""
        if not self.troubled:
            return math.inf
        return max(self._probed_s + self._interval_s, self._news_s + FIRST_PROBE_S)

    def probed(self, now_s: float) -> None:
        """Notes that a decision took it as a probe."""
        self.probes += 1
        self._probed_s = max(self._probed_s, now_s)
        self._interval_s = min(2.0 * self._interval_s, LONGEST_PROBE_S)

    @property
    def live(self) -> Live:
        """What its recent attempts showed."""
        return live(self._kept)

    def saw(self, several: Iterable[Seen]) -> None:
        """Takes in what attempts showed; they may come in any order."""
        new = sorted(several, key=_ended_s)
        for what in new:
            self._forget(what.ended_s)
            insort(self._kept, what, key=_ended_s)
            self._news_s = max(self._news_s, what.ended_s)
            if self._does_well(what):
                self._interval_s = FIRST_PROBE_S
            if self.opened_s is not None and what.started_s >= self.opened_s:
                self._try_to_close(what)
        self._let_go()
        if self.opened_s is None:
            self._open_when_failing()
        self._measure(new)

    def awaits(self, due: Sequence[Due], now_s: float) -> None:
        """Takes in the attempts that should have ended by now, in the order that they began."""
        worse = overdue(self._timed, due) if due else 1.0
        self.load = self._measured if worse == 1.0 else Backend(slowdown=worse)
        if worse != 1.0:
            self._overdue_s = now_s

    @property
    def _timed(self) -> list[Seen]:
        return [each for each in self._kept if each.log_ratio is not None]

    def _let_go(self) -> None:
        counts = Counter(each.tenant for each in self._kept)
        while len(self._kept) > MOST_KEPT:
            most = max(counts.values())
            place = next(i for i, each in enumerate(self._kept) if counts[each.tenant] == most)
            counts[self._kept.pop(place).tenant] -= 1

    def _forget(self, now_s: float) -> None:
        """Forgets all after a long time without news."""
        if now_s - max(self._news_s, self._probed_s) > FORGOTTEN_S:
            self._kept.clear()
            self.opened_s, self.load, self._measured = None, PROBED, PROBED

    def _does_well(self, what: Seen) -> bool:
        if what.failed or what.started_s < (self.opened_s or -math.inf):
            return False
        usual_s = what.median_s or 1.0
        trouble = loaded_median_s(usual_s, what.firsts, self.load) / usual_s
        return (what.log_ratio or 0.0) <= CLEARLY_QUICKER * math.log(max(trouble, 1.0))

    def _open_when_failing(self) -> None:
        if sum(each.failed for each in self._kept) < LEAST_FAILED:
            return
        if failed_share(self._kept) >= FAILED_SHARE and not self._somebody_does_well():
            self.opened_s = max(each.ended_s for each in self._kept if each.failed)
            self._good, self._interval_s = 0, FIRST_PROBE_S

    def _somebody_does_well(self) -> bool:
        since_s = self._kept[-1].ended_s - HALF_LIFE_S
        recent = [each for each in self._kept if each.ended_s >= since_s]
        by_tenant = [
            [each for each in recent if each.tenant == tenant]
            for tenant in {each.tenant for each in recent}
        ]
        return any(
            len(own) >= LEAST_FAILED and failed_share(own) < FAILED_SHARE for own in by_tenant
        )

    def _try_to_close(self, what: Seen) -> None:
        self._good = 0 if what.failed else self._good + 1
        if self._good >= GOOD_TO_CLOSE:
            self.opened_s = None
            self._kept = [each for each in self._kept if not each.failed]

    def _measure(self, new: Sequence[Seen]) -> None:
        timed = self._timed
        self.load = self._measured = measured(timed, self._usual)
        if ratio(timed) != 1.0:
            self._usual.start_anew()
        elif self.opened_s is None:
            for what in new:
                if what.first_token_s is not None:
                    self._usual.took(what.tenant, what.ended_s, what.first_token_s)


def _ended_s(what: Seen) -> float:
    return what.ended_s


class Backends:
    """All models' backends, by name. Not thread-safe."""

    def __init__(self) -> None:
        self.tracks: dict[str, Track] = {}

    def saw(self, model: str, several: Iterable[Seen]) -> None:
        """Takes in what attempts of the model showed."""
        self.tracks.setdefault(model, Track()).saw(several)

    def awaits(self, due: Mapping[str, Sequence[Due]], now_s: float) -> None:
        """Takes in each model's attempts that should have ended by now."""
        for model in {*self.tracks, *due}:
            self.tracks.setdefault(model, Track()).awaits(due.get(model, ()), now_s)

    def live(self) -> Mapping[str, Live]:
        """What recent attempts of each model showed."""
        return {model: track.live for model, track in self.tracks.items()}

    def probed(self, model: str, now_s: float) -> None:
        """Notes that a decision took the model as a probe."""
        self.tracks.setdefault(model, Track()).probed(now_s)

    def off_normal(self, now_s: float) -> Mapping[str, Backend]:
        """The models that do not do as predicted, the probes aside."""
        found = {model: track.backend(now_s) for model, track in self.tracks.items()}
        return {model: backend for model, backend in found.items() if backend != PROBED}

    def due(self) -> Mapping[str, float]:
        """When each model in trouble may be probed next."""
        found = {model: track.due_s for model, track in self.tracks.items()}
        return {model: due_s for model, due_s in found.items() if due_s < math.inf}
