"""The watcher's canary: each turn what arrived is counted, judged, and acted on.

outcomes of both sides -> comparison -> verdict -> a greater share, promotion or rollback
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from router.errors import InvalidInput, LeadlineError
from router.ids import derived_uuid7
from router.slo import Slo
from router.store.canaries import LATE, Sides, SideSeen
from router.types import PolicyRecord
from training.canary.judge import DEFAULT, Action, Plan, Verdict, judge, told
from training.watch.canary_counting import Counting
from training.watch.canary_kept import Kept
from training.watch.plan import Policies, Stores
from training.watch.shadow import ShadowWatch
from training.watch.sparing import Log, spared
from training.watch.telling import ACTOR, Teller
from training.watch.times import IDLE_WRITE, SETTLED_AFTER

FOLLOWED_AFTER = timedelta(seconds=5)
"""By then every worker has followed a share."""

MOST_SLOS = 10_000

Event = dict[str, Any]


class CanaryWatch:
    """Watches the canary, if there is one. One at a time per database; not thread-safe.

    A turn may be cut off anywhere: what was counted and where it stood are one write, and
    what they say is done again by the next turn where it was not.
    """

    def __init__(
        self, stores: Stores, policies: Policies, *, log: Log, plan: Plan = DEFAULT
    ) -> None:
        self._stores, self._log, self._plan = stores, log, plan
        self._shadow = ShadowWatch(stores, policies, log=log)
        self._slos: dict[tuple[UUID, str, int], Slo | None] = {}
        self._noted: datetime | None = None
        self._rests_until: datetime | None = None

    def guarded_turn(self, horizon: int, teller: Teller, now: datetime) -> None:
        """A turn whose failure keeps no floor waiting. Raises Unavailable when Postgres is away."""
        if self._rests_until is not None and now < self._rests_until:
            return

        def turn() -> None:
            self.turn(horizon, now)
            self._tell(teller, now)

        spared(turn, partial(self._rest, now), log=self._log, failed="watching a canary failed")

    def _rest(self, now: datetime, pause: timedelta, why: str) -> None:
        self._rests_until = now + pause
        self._log.error("canary not watched for a minute", why=why)

    def turn(self, horizon: int, now: datetime) -> Verdict | None:
        """One turn over what has arrived before the horizon; None without a served canary."""
        record = self._stores.registry.on_trial()
        if record is None:
            return None
        if not record.share:
            self._shadow.turn(record, horizon, now)
            return None
        tenants = [each.tenant_id for each in self._stores.tenants.tenants()]
        active = self._stores.registry.active()
        kept = self._followed(record, active.version if active else 0, horizon, now)
        counted = self._counted(record, kept, tenants, horizon, now)
        verdict = judge(
            counted.comparison,
            self._plan,
            share=record.share,
            decisions=counted.at_share,
            since=counted.steps[-1][0],
            now=now,
        )
        self._act(record, kept, counted, verdict, now)
        return verdict

    def _tell(self, teller: Teller, now: datetime) -> None:
        """Posts what was decided of canaries to the installation's webhook."""
        for version, untold in self._stores.canaries.untold().items():
            taken = teller.tell_installation(untold, now, self._log.warning)
            if taken:
                left = [each for each in untold if each["id"] not in taken]
                self._stores.canaries.told(version, left)

    def _followed(self, record: PolicyRecord, active: int, horizon: int, now: datetime) -> Kept:
        """What is kept of the canary, at its share of now; anew under another active policy."""
        kept = self._read(record.version)
        share = record.share or 0.0
        if kept is None or kept.active != active:
            self._log.info("canary watched", policy=record.version, active=active, share=share)
            began = now + FOLLOWED_AFTER
            return Kept.begun(self._plan, active=active, share=share, since=horizon, at=began)
        kept = replace(kept, since=min(kept.since, horizon))  # a restored database begins anew
        return kept if kept.share == share else kept.stepped(share, now + FOLLOWED_AFTER)

    def _read(self, version: int) -> Kept | None:
        found = self._stores.canaries.kept(version)
        try:
            kept = None if found is None or "slos" in found else Kept.from_mapping(found)
        except InvalidInput as error:
            self._log.error("canary watched anew", policy=version, why=error.message)
            return None
        same = kept is not None and kept.comparison.bets.slacks == self._plan.slacks
        return kept if same else None

    def _counted(
        self,
        record: PolicyRecord,
        kept: Kept,
        tenants: Sequence[UUID],
        horizon: int,
        now: datetime,
    ) -> Kept:
        """With all that arrived of all tenants between the places of the last turn and of this."""
        sides = Sides(
            canary=record.version,
            active=kept.active,
            steps=[at for at, _ in kept.steps],
            lately=(kept.counted_at or kept.steps[0][0]) - LATE,
        )
        settled = [
            self._stores.canaries.settled(each, kept.since, horizon, now - SETTLED_AFTER)
            for each in tenants
        ]
        until = max(min([horizon, *settled]), kept.since)
        counting = Counting(record.version, kept, self._plan)
        for tenant_id in tenants:
            for rows, counts in self._arrived(tenant_id, sides, kept.since, until):
                counting.add(tenant_id, rows, counts, self._asked(tenant_id, rows))
        return replace(counting.kept, since=until, counted_at=now)

    def _arrived(
        self, tenant_id: UUID, sides: Sides, since: int, until: int
    ) -> Iterator[tuple[Sequence[SideSeen], int]]:
        """What arrived, batch by batch, with how many decisions the canary made."""
        while since < until:
            rows, counts, since = self._stores.canaries.seen(tenant_id, sides, since, until)
            yield rows, counts.get(sides.canary, 0)

    def _asked(
        self, tenant_id: UUID, rows: Sequence[SideSeen]
    ) -> dict[tuple[str, int], Slo | None]:
        """The slos that decisions were made under."""
        named = {(row.slo_name, row.slo_version) for row in rows}
        return {each: self._slo(tenant_id, *each) for each in named}

    def _slo(self, tenant_id: UUID, name: str, version: int) -> Slo | None:
        place = (tenant_id, name, version)
        if place not in self._slos:
            if len(self._slos) >= MOST_SLOS:
                self._slos.clear()
            known = self._stores.slos.get(*place) if version else None
            self._slos[place] = known
        return self._slos[place]

    def _act(
        self, record: PolicyRecord, before: Kept, kept: Kept, verdict: Verdict, now: datetime
    ) -> None:
        """Notes what was found, then does what it calls for."""
        acts = verdict.action is not Action.WAIT
        if acts:
            kept = kept.telling(_event(record, kept, verdict, now))
        if not (acts or kept.has_news(before) or self._is_due(now)):
            return
        found = {**told(verdict), **kept.summary(), "share": record.share, "at": now.isoformat()}
        if not self._stores.canaries.note(record.version, found, kept.to_mapping()) or not acts:
            self._noted = now
            return
        try:
            self._do(record, kept, verdict)
        except LeadlineError as error:
            self._log.warning("canary left", policy=record.version, why=error.message)

    def _is_due(self, now: datetime) -> bool:
        return self._noted is None or now - self._noted >= IDLE_WRITE

    def _do(self, record: PolicyRecord, kept: Kept, verdict: Verdict) -> None:
        registry, version = self._stores.switch, record.version
        comment = f"{verdict.why} after {kept.decisions:,} canary decisions"
        place = self._plan.place(record.share or 0.0) + 1
        if verdict.action is Action.ROLLBACK:
            registry.reject(version, actor=ACTOR, comment=comment)
            self._log.warning("canary rolled back", policy=version, why=comment)
        elif place < len(self._plan.steps):
            share = self._plan.steps[place].share
            registry.canary(version, share=share, actor=ACTOR, comment=comment)
            self._log.info("canary advances", policy=version, share=share, why=comment)
        else:
            registry.promote(version, actor=ACTOR, comment=comment)
            self._log.info("canary promoted", policy=version, why=comment)


def _event(record: PolicyRecord, kept: Kept, verdict: Verdict, now: datetime) -> Event:
    """What webhooks are told; the same act is the same event."""
    named = str(record.version), verdict.action.value, str(record.share), str(kept.steps[0][0])
    return {
        "id": str(derived_uuid7(kept.steps[-1][0], *named)),
        "at": now.isoformat(),
        "kind": "canary",
        "policy_version": record.version,
        "active_version": kept.active,
        "share": record.share,
        "decisions": kept.decisions,
        **told(verdict),
    }
