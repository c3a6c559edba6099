"""A monitor as the watcher keeps it: what it has counted, of which versions, and what to tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Self
from uuid import UUID

import numpy as np

from router.conditions import MonitorState
from router.errors import InvalidInput
from router.ids import derived_uuid7
from router.policy.certificate import Status
from router.policy.change import Change, Seen
from router.policy.monitoring import Monitor
from router.policy.novelty import is_novel
from router.slo import Slo
from router.store.promise_seams import CertificateRecord, Fresh, FreshOutcome, MonitorRecord
from training.watch.certifying import inputs, later

MOST_UNTOLD = 100
LEAST_GROWTH = 20
MOST_CONFIDENCE = 0.9999
ONCE_A_DAY = timedelta(days=1)

Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A monitor with what its record holds besides.

    It counts outcomes of one version of the slo under one version of the policy. `change`
    holds them against those before, and begins anew once a floor is certified after a fall.
    `fresh` of them came after the certificate `certificate_id` was made; `untold` are events
    that the webhook has not taken yet, oldest first.
    """

    monitor: Monitor
    slo_version: int
    policy_version: int
    change: Change = field(default_factory=Change)
    certificate_id: str = ""
    fresh: int = 0
    untold: tuple[Event, ...] = ()

    def to_mapping(self) -> dict[str, Any]:
        """The body of a monitor's record: plain JSON values."""
        names = ("slo_version", "policy_version", "certificate_id", "fresh")
        own = {name: getattr(self, name) for name in names}
        change = {"change": self.change.to_mapping()}
        return {**self.monitor.to_mapping(), **own, **change, "untold": list(self.untold)}

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> Self:
        """Reads what `to_mapping` wrote. Raises InvalidInput for what is no monitor."""
        change = value.get("change")
        return cls(
            monitor=Monitor.from_mapping(value),
            change=Change() if change is None else Change.from_mapping(change),
            slo_version=int(value.get("slo_version", 0)),
            policy_version=int(value.get("policy_version", 0)),
            certificate_id=str(value.get("certificate_id", "")),
            fresh=int(value.get("fresh", 0)),
            untold=tuple(value.get("untold", ())),
        )

    @property
    def versions(self) -> tuple[int, int]:
        """Of the slo and of the policy."""
        return self.slo_version, self.policy_version

    def under(self, certificate: CertificateRecord) -> Self:
        """The same where that certificate is in force."""
        known = str(certificate.certificate_id)
        if known == self.certificate_id:
            return self
        stands_anew = self.change.found and certificate.body.get("status") == Status.CERTIFIED
        change = Change(level=self.change.level) if stands_anew else self.change
        return replace(self, certificate_id=known, fresh=0, change=change)

    def counting(self, fresh: Fresh, *, new: bool) -> Self:
        """With what arrived of its versions, novel queries apart; `new` to the certificate."""
        ours = [
            each
            for each in fresh.outcomes
            if (each.slo_version, each.policy_version) == self.versions
        ]
        scores = np.array([each.score for each in ours], np.float64)
        apart = np.array([is_novel(each.novelty) for each in ours], bool)
        seen = [each for each in map(_seen, ours) if each is not None]
        usual, novel = (fresh.decisions.get((*self.versions, each), 0) for each in (False, True))
        monitor = self.monitor.decided(usual, apart=novel).observe(scores, apart=apart)
        change, count = self.change.observe(seen), self.fresh + len(ours) * new
        return replace(self, monitor=monitor, change=change, fresh=count)

    def telling(self, event: Event) -> Self:
        """With one more event to tell; of more than a hundred the oldest are let go."""
        return replace(self, untold=(*self.untold, event)[-MOST_UNTOLD:])

    def told(self, event_ids: set[str]) -> Self:
        """Without the events that the webhook has taken."""
        return replace(self, untold=tuple(e for e in self.untold if e["id"] not in event_ids))


def _seen(outcome: FreshOutcome) -> Seen | None:
    """A usual query's first answer, where its accuracy was predicted."""
    if outcome.expected is None or outcome.attempt or is_novel(outcome.novelty):
        return None
    return Seen(
        model=outcome.model,
        score=outcome.score,
        expected=outcome.expected,
        at=outcome.decided_at,
    )


def kept_of(record: MonitorRecord | None) -> Kept | None:
    """What a record keeps; None where there is none, or none that this version reads."""
    if record is None:
        return None
    try:
        return Kept.from_mapping(record.body)
    except (InvalidInput, TypeError, ValueError):
        return None


def floor_of(slo: Slo, certificate: CertificateRecord) -> float | None:
    """What outcomes are held against; None where a relative floor is not certified yet.

    A relative floor is a share of what the reference arm reaches at least.
    """
    if slo.min_accuracy is not None:
        return slo.min_accuracy
    bound = certificate.body.get("reference_bound")
    if certificate.body.get("status") != Status.CERTIFIED or bound is None:
        return None
    return min((slo.min_relative_accuracy or 0.0) * float(bound), 1.0)


def begun(slo: Slo, certificate: CertificateRecord) -> Kept | None:
    """A new monitor; None where there is no floor to watch.

    That of a relative floor may be wrong half as often, as its reference's bound may be.
    """
    floor = floor_of(slo, certificate)
    if floor is None or floor <= 0.0:
        return None
    confidence = slo.confidence if slo.min_accuracy is not None else 0.5 + slo.confidence / 2.0
    return Kept(
        monitor=Monitor(floor=floor, confidence=min(confidence, MOST_CONFIDENCE)),
        slo_version=certificate.slo_version,
        policy_version=certificate.policy_version,
        change=Change(level=1.0 - slo.confidence),
        certificate_id=str(certificate.certificate_id),
    )


def has_grown(
    certificate: CertificateRecord, kept: Kept | None, now: datetime, *, awaited: int = 0
) -> bool:
    """Whether enough has come since the certificate: as much again, or a fifth in a day.

    Each look spends of the error that is stated, so none is taken before three quarters of
    what the certificate says that it needs. `awaited` scored decisions came where no monitor
    of the certificate counts them.
    """
    ours = kept is not None and kept.certificate_id == str(certificate.certificate_id)
    fresh = kept.fresh if kept is not None and ours else awaited
    own = int(inputs(certificate).get("own", 0))
    aged = now - certificate.created_at >= ONCE_A_DAY
    short = 0.75 * (certificate.body.get("needed_n") or 0) - own
    return fresh >= max(own / 5 if aged else own, 1 if aged else LEAST_GROWTH, short)


def record_of(
    kept: Kept,
    before: MonitorRecord | None,
    *,
    tenant: tuple[UUID, str],
    slo_name: str,
    until: int,
    now: datetime,
    tell: bool,
) -> tuple[MonitorRecord, Event | None]:
    """The record to write over the one `before`, and the event of its state's change, if any.

    The event is in the record itself where it is to `tell`, so that it outlives a crash.
    """
    old, new = before.state if before else MonitorState.HOLDING, kept.monitor.state
    event = None
    if old is not new:
        event = _event(kept, old, tenant=tenant, slo_name=slo_name, until=until, now=now)
        if tell:
            kept = kept.telling(event)
    record = MonitorRecord(
        tenant_id=tenant[0],
        slo_name=slo_name,
        state=new,
        seen_until=until,
        updated_at=later(now, before.updated_at if before else None),
        body=kept.to_mapping(),
    )
    return record, event


def _event(
    kept: Kept,
    before: MonitorState,
    *,
    tenant: tuple[UUID, str],
    slo_name: str,
    until: int,
    now: datetime,
) -> Event:
    statement = asdict(kept.monitor.statement())
    state = kept.monitor.state.value
    where = (str(tenant[0]), slo_name, before.value, state, str(until))
    return {
        "id": str(derived_uuid7(now, *where)),
        "at": now.isoformat(),
        "tenant": tenant[1],
        "slo": slo_name,
        "slo_version": kept.slo_version,
        "policy_version": kept.policy_version,
        "before": before.value,
        "state": state,
        "statement": statement | {"state": state},
    }
