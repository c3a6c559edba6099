"""What first tokens of a model usually take, from its own past. Pure.

Nothing of it is predicted. So what is usual is the median of first tokens that came while
the model's latency was as predicted, for each tenant by itself, since a longer prompt takes
longer to read. It is known from 8 of them; after 16, one in 20 s enters and the oldest of 32
leaves, so that a queue of some minutes does not become the usual one.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from statistics import median

LEAST_FIRSTS, EVERY_FIRST, MOST_FIRSTS = 8, 16, 32
PAUSE_S = 20.0
MOST_TENANTS = 256


@dataclass(slots=True, kw_only=True)
class _Own:
    """One tenant's first tokens, the newest last."""

    first_s: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_FIRSTS))
    entered_s: float = 0.0
    usual_s: float | None = None


class UsualFirsts:
    """What each tenant's first tokens of one model usually take. Not thread-safe."""

    def __init__(self) -> None:
        self._owns: OrderedDict[str, _Own] = OrderedDict()

    def of(self, tenant: str) -> float | None:
        """In seconds; None while too few are known."""
        own = self._owns.get(tenant)
        return None if own is None else own.usual_s

    def took(self, tenant: str, at_s: float, first_s: float) -> None:
        """Notes one that came while the model did as predicted."""
        own = self._owns.setdefault(tenant, _Own())
        self._owns.move_to_end(tenant)
        if len(self._owns) > MOST_TENANTS:
            self._owns.popitem(last=False)
        if len(own.first_s) >= EVERY_FIRST and at_s < own.entered_s + PAUSE_S:
            return
        own.first_s.append(first_s)
        own.entered_s = at_s
        if len(own.first_s) >= LEAST_FIRSTS:
            own.usual_s = median(own.first_s)

    def start_anew(self) -> None:
        """Forgets tenants of whom too little is known, since the model is in trouble."""
        for tenant in [each for each, own in self._owns.items() if own.usual_s is None]:
            del self._owns[tenant]
