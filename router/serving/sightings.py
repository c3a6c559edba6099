"""What a reported attempt showed of its backend, from its decision in an outbox near by."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from router.conditions import Backend
from router.ids import time_of
from router.policy.load import first_tokens, usual_median_s
from router.policy.seen import seen
from router.serving.decisions import Finder, Row, attempt_id
from router.serving.exchange import Sighting
from router.serving.rows import arm_of, read
from router.store.seams import Kind
from router.types import Arm

STALE_S = 60.0
"""Older news than this tells nothing of now."""

FIRSTS_SPREAD = 0.5
"""About how widely the logarithm of a call's first token lies around its median."""

_MOST_KNOWN = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """What a caller said of an attempt at `now_s`, in epoch seconds: its latency, or a failure.

    `first_token_s` is what its first call's first token took.
    """

    tenant_id: UUID
    decision_id: UUID
    attempt: int
    now_s: float
    latency_s: float | None
    failed: bool
    first_token_s: float | None = None
    output_tokens: int | None = None


Watch = Callable[[Reported], None]
"""Hears of every attempt that is reported; answers at once."""


def unwatched(_said: Reported) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempted:
    """The arm of an attempt, when it began, and the median predicted at its usual speed."""

    arm: Arm
    started_s: float
    median_s: float | None
    firsts: float


class Sightings:
    """Finds the arm of what was reported. Blocks for some microseconds; not thread-safe.

    A decision that no outbox here still has was made elsewhere, or long ago: it says
    nothing. What is said of an attempt twice counts once.
    """

    def __init__(self, finders: Sequence[Finder]) -> None:
        self._finders = finders
        self._known: OrderedDict[tuple[UUID, int], None] = OrderedDict()

    def of(self, said: Reported) -> Sighting | None:
        """What the attempt showed, None where it tells nothing of how the backend does now."""
        place = (said.decision_id, said.attempt)
        attempted = None if place in self._known else self._attempted(said)
        if attempted is None:
            return None
        what = seen(
            attempted.started_s,
            said.now_s,
            latency_s=said.latency_s,
            median_s=attempted.median_s,
            first_token_s=said.first_token_s,
            firsts=attempted.firsts,
            output_tokens=said.output_tokens,
            failed=said.failed,
            tenant=said.tenant_id.hex,
        )
        if what is None or said.now_s - what.ended_s > STALE_S:
            return None
        self._remember(place)
        return Sighting(model=attempted.arm.model, seen=what)

    def _remember(self, place: tuple[UUID, int]) -> None:
        self._known[place] = None
        if len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)

    def _attempted(self, said: Reported) -> _Attempted | None:
        row = self._find(Kind.DECISION, said.tenant_id, said.decision_id)
        if row is None or not row["predictions"]:
            return None
        arm, started_s = row["arm"], time_of(said.decision_id).timestamp()
        if said.attempt:
            before = attempt_id(said.tenant_id, said.decision_id, said.attempt - 1)
            ended = self._find(Kind.ATTEMPT, said.tenant_id, before)
            if ended is None or ended["next_arm"] is None:
                return None
            arm = ended["next_arm"]
            started_s = datetime.fromisoformat(ended["occurred_at"]).timestamp()
        return _attempted(row, arm, started_s)

    def _find(self, kind: Kind, tenant_id: UUID, row_id: UUID) -> Row | None:
        for finder in self._finders:
            if (found := finder.find(kind, tenant_id, row_id)) is not None:
                return read(found.row)
        return None


def _attempted(row: Row, key: str, started_s: float) -> _Attempted:
    """A row's figures are what was expected under the load of then."""
    arm, predicted, conditions = arm_of(key), row["predictions"], row.get("conditions") or {}
    known = dict(zip(predicted["arms"], predicted["latency_p50_s"], strict=True))
    backend = Backend(**conditions.get("backends", {}).get(arm.model, {}))
    then = first_tokens(arm, backend.first_token_spread)[0]
    loaded_s = known.get(key)
    return _Attempted(
        arm=arm,
        started_s=started_s,
        median_s=None if loaded_s is None else usual_median_s(loaded_s, then, backend),
        firsts=first_tokens(arm, FIRSTS_SPREAD)[0],
    )
