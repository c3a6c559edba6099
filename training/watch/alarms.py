"""The watcher's alarms: each slo's decisions that arrived are held against what is usual for it.

decisions -> climb -> alarm -> audit, log, webhook
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from router.ids import derived_uuid7
from router.policy.climbing import MARGIN
from router.slo import DEFAULT_SLO
from router.store.alarms import AlarmRecord
from router.store.seams import Tenant
from training.watch.alarms_kept import Event, Kept
from training.watch.plan import Stores
from training.watch.sparing import Log, spared
from training.watch.telling import ACTOR, Teller
from training.watch.times import IDLE_WRITE

EVERY = timedelta(seconds=10)


class AlarmWatch:
    """Watches how far up decisions climb. One at a time per database; not thread-safe.

    A turn may be cut off anywhere: what was counted, where it stood and what is to be told
    are one write.
    """

    def __init__(self, stores: Stores, *, log: Log, margin: float = MARGIN) -> None:
        self._stores, self._log, self._margin = stores, log, margin
        self._due: datetime | None = None
        self._written: dict[tuple[UUID, str], datetime] = {}

    def guarded_turn(self, horizon: int, teller: Teller, now: datetime) -> None:
        """A turn whose failure keeps no floor waiting. Raises Unavailable when Postgres is away."""
        if self._due is not None and now < self._due:
            return
        self._due = now + EVERY
        turn, rest = partial(self.turn, horizon, teller, now), partial(self._rest, now)
        if spared(turn, rest, log=self._log, failed="watching for alarms failed"):
            self._due = now

    def _rest(self, now: datetime, pause: timedelta, why: str) -> None:
        self._due = now + pause
        self._log.error("alarms not watched for a minute", why=why)

    def turn(self, horizon: int, teller: Teller, now: datetime) -> bool:
        """One turn over what has arrived before the horizon; whether some of it is left."""
        more = False
        for tenant in self._stores.tenants.tenants():
            known = self._stores.alarms.current(tenant.tenant_id)
            for name in self._names(tenant, known):
                record = self._follow(tenant, name, known.get(name), horizon, now)
                if record is not None:
                    more |= record.seen_until < horizon and record is not known.get(name)
                    self._tell(tenant, record, teller, now)
        return more

    def _names(self, tenant: Tenant, known: Mapping[str, AlarmRecord]) -> list[str]:
        slos = (slo.name for slo in self._stores.slos.current(tenant.tenant_id))
        return sorted({DEFAULT_SLO, *slos, *known})

    def _follow(
        self, tenant: Tenant, name: str, before: AlarmRecord | None, horizon: int, now: datetime
    ) -> AlarmRecord | None:
        """The slo's alarm with what arrived; written where that is news."""
        since = min(before.seen_until, horizon) if before else 0
        seen, until = self._stores.alarms.seen(tenant.tenant_id, name, since, horizon)
        if not seen and (before is None or not self._is_due(before, now)):
            return before
        kept = Kept.of(before).counting(seen, margin=self._margin)
        rang = before is not None and before.ringing
        changed = kept.ringing is not rang
        if changed:
            kept = kept.telling(self._event(tenant, name, kept, until, now))
        record = AlarmRecord(
            tenant_id=tenant.tenant_id,
            slo_name=name,
            ringing=kept.ringing,
            since=now if changed or before is None else before.since,
            seen_until=until,
            body=kept.to_mapping(self._margin),
        )
        self._write(record, now, changed=changed)
        return record

    def _is_due(self, before: AlarmRecord, now: datetime) -> bool:
        """Whether a place that nothing has moved for long is to be written."""
        written = self._written.get((before.tenant_id, before.slo_name))
        return written is None or now - written >= IDLE_WRITE

    def _event(self, tenant: Tenant, name: str, kept: Kept, until: int, now: datetime) -> Event:
        """What webhooks are told, and the log."""
        before, state = ("quiet", "ringing") if kept.ringing else ("ringing", "quiet")
        said = kept.statement(self._margin)
        self._log.warning("alarm", tenant=tenant.name, slo=name, state=state, **said)
        where = (str(tenant.tenant_id), name, "alarm", state, str(until))
        return {
            "id": str(derived_uuid7(now, *where)),
            "at": now.isoformat(),
            "kind": "alarm",
            "tenant": tenant.name,
            "slo": name,
            "before": before,
            "state": state,
            "statement": said,
        }

    def _tell(self, tenant: Tenant, record: AlarmRecord, teller: Teller, now: datetime) -> None:
        """Posts what is untold; what was taken, or what nobody is to be told, is crossed off."""
        kept = Kept.of(record)
        if not kept.untold:
            return
        untold = [(tenant.tenant_id, event) for event in kept.untold]
        taken = teller.tell(untold, now, self._stores.webhooks, self._log.warning)
        if taken:
            body = kept.told(taken).to_mapping(self._margin)
            self._write(replace(record, body=body), now, changed=False)

    def _write(self, record: AlarmRecord, now: datetime, *, changed: bool) -> None:
        self._stores.alarms.write(record, changed=changed, actor=ACTOR)
        self._written[record.tenant_id, record.slo_name] = now
