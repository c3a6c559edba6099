"""The watcher: turn by turn it certifies floors and holds them against arrived outcomes.

outcomes -> the canary's verdict; monitors -> what changed is told; then one certificate that is
missing or has aged
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from router.errors import BundleRefused, Conflict, InvalidInput, LeadlineError
from router.policy.certificate import Status
from router.policy.climbing import MARGIN
from router.store.promise_seams import CertificateRecord, MonitorRecord
from training.canary.judge import DEFAULT
from training.canary.judge import Plan as CanaryPlan
from training.watch.alarms import AlarmWatch
from training.watch.canary import CanaryWatch
from training.watch.certifying import Cut, Subject, inputs, looks_of, write_up
from training.watch.due import fits, going_on, grown, is_news
from training.watch.monitoring import Event, Kept, kept_of, record_of
from training.watch.plan import Plan, Policies, Stores, Watched, read_beside, read_plan
from training.watch.sparing import Log, spared
from training.watch.telling import ACTOR, Teller
from training.watch.times import PAUSE_AFTER_FAILURE, SETTLED_AFTER
from training.watch.voiding import event_of, since_change, tells_of_fall, voided

MOST_LOOKS = 1_000
_ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What a turn has done; `more` says that another has work at once."""

    certified: Sequence[Watched]
    changed: Sequence[Event]
    more: bool


class Watcher:
    """Watches every slo with an average floor. One at a time per database; not thread-safe.

    A turn may be cut off anywhere: what it counted and where it stood are one write, and so
    are a change of state and the event that tells of it.
    """

    def __init__(
        self,
        stores: Stores,
        policies: Policies,
        *,
        log: Log,
        teller: Teller | None = None,
        canary: CanaryPlan = DEFAULT,
        climb_margin: float = MARGIN,
    ) -> None:
        self._stores, self._policies, self._log = stores, policies, log
        self._teller = teller or Teller(None)
        self._canary = CanaryWatch(stores, policies.another(), log=log, plan=canary)
        self._alarms = AlarmWatch(stores, log=log, margin=climb_margin)
        self._tried_policies = policies.another()
        self._beside: Plan | None = None
        self._plan: Plan | None = None
        self._revisions: object = None
        self._resting: dict[tuple[str, str], datetime] = {}
        self._tried: dict[tuple[str, str], datetime] = {}

    @property
    def watched(self) -> Sequence[Watched]:
        """The slos as of the last turn."""
        return self._plan.watched if self._plan else ()

    def turn(self, now: datetime) -> Turn:
        """One turn. Raises Unavailable while Postgres is away.

        The horizon is asked for first: what arrived before it was decided under versions
        that the plan, read after it, knows.
        """
        horizon = self._stores.arrivals.horizon()
        plan = self._read()
        self._canary.guarded_turn(horizon, self._teller, now)
        self._alarms.guarded_turn(horizon, self._teller, now)
        if plan is None:
            return Turn(certified=(), changed=(), more=False)
        changed: list[Event] = []
        for watched in plan.watched:
            with_event = partial(self._follow, plan, watched, horizon, now)
            changed += self._guarded(watched, with_event, now) or ()
            voiding = partial(self._void, plan, watched, horizon, now)
            changed += self._guarded(watched, voiding, now) or ()
        self._tell(plan, now)
        made = self._certify_one(plan, horizon, now)
        return Turn(certified=made, changed=changed, more=bool(made))

    def _certify_one(self, plan: Plan, horizon: int, now: datetime) -> list[Watched]:
        """Certifies what is due and was tried the longest ago, if any; the canary's floors too."""
        plans = [plan, self._beside] if self._beside else [plan]
        for watched in self._beside.watched if self._beside else ():
            self._guarded(watched, partial(self._await, watched, horizon), now)
        due = [(of, each) for of in plans for each in self._due(of, now)]
        due = [(of, each) for of, each in due if not self._rests(each, now)]
        made = sorted(due, key=lambda pair: self._tried.get(pair[1].name, _ALWAYS))[:1]
        for of, watched in made:
            self._tried[watched.name] = now
            self._guarded(watched, partial(self._certify, of, watched, horizon, now), now)
        return [watched for _, watched in made]

    def _read(self) -> Plan | None:
        """What to watch, read again when configuration has changed.

        Where the new policy is refused, the old one goes on to serve and to be watched.
        """
        revisions = self._stores.changes.revisions()
        if revisions != self._revisions:
            try:
                self._plan = read_plan(self._stores, self._policies)
                self._teller.follow(self._stores.webhooks.current())
            except BundleRefused as error:
                self._log.error(
                    "policy refused: what was watched before goes on", why=error.message
                )
            self._beside = self._read_beside()
            self._revisions = revisions
        return self._plan

    def _read_beside(self) -> Plan | None:
        """What to certify for the canary; nothing where its bundle is refused."""
        try:
            return read_beside(self._stores, self._tried_policies)
        except BundleRefused as error:
            self._log.error("canary refused: its floors are not certified", why=error.message)
            return None

    def _guarded(self, watched: Watched, work: Callable[[], Any], now: datetime) -> Any:
        """What the work returns; a failure that is this slo's alone keeps no other waiting."""
        rest = partial(self._rest, watched, now)
        try:
            return spared(
                work, rest, log=self._log, failed="watching failed", passing=(LeadlineError,)
            )
        except Conflict:
            self._revisions = None
        except InvalidInput as error:
            rest(PAUSE_AFTER_FAILURE, error.message)
        return None

    def _follow(self, plan: Plan, watched: Watched, horizon: int, now: datetime) -> list[Event]:
        """Counts what has arrived, in as many batches as it takes."""
        changed: list[Event] = []
        since = watched.monitor.seen_until if watched.monitor else 0
        if self._rests(watched, now):
            return changed
        kept = going_on(plan, watched)
        if kept is None and fits(plan, watched):
            self._await(watched, horizon)
        while kept is not None:
            after = now - SETTLED_AFTER
            named = watched.tenant.tenant_id, watched.slo.name
            until = self._stores.watching.settled(*named, since, horizon, after)
            counted, ends = self._counted(watched, kept, since, until)
            if is_news(kept, counted, watched.monitor, ends, now):
                event = self._write(watched, counted, ends, now)
                changed += [event] if event else []
            kept = counted if since < ends < until else None
            since = ends
        return changed

    def _void(self, plan: Plan, watched: Watched, horizon: int, now: datetime) -> list[Event]:
        """Voids the certificate in force where accuracy has fallen since it was measured.

        The event is written before the certificate is: both are done again after a crash.
        """
        if watched.monitor is None or not tells_of_fall(watched.monitor):
            return []
        kept, before = going_on(plan, watched), watched.certificate
        if kept is None or before is None or kept.change.found is None:
            return []
        record = voided(before, kept.change.found, horizon=horizon, now=now)
        if record is None:
            return []
        told = []
        if before.body.get("status") == Status.CERTIFIED:
            event = event_of(record, Status.CERTIFIED.value, watched.tenant.name, now)
            told.append(event)
            if self._teller.tells(watched.tenant.tenant_id):
                self._write(watched, kept.telling(event), watched.monitor.seen_until, now)
        self._put(watched, record, horizon)
        tenant, slo = watched.name
        self._log.warning("certificate voided", tenant=tenant, slo=slo, why=record.body["message"])
        return told

    def _await(self, watched: Watched, horizon: int) -> None:
        """Counts what has been scored since a certificate that leaves no floor to monitor."""
        if watched.certificate is None:
            return
        known = int(inputs(watched.certificate).get("horizon", 0))
        since = max(watched.awaited_until, known)
        if since < horizon:
            named = watched.tenant.tenant_id, watched.slo.name
            watched.awaited += self._stores.watching.scored_since(*named, since, horizon)
            watched.awaited_until = horizon

    def _counted(self, watched: Watched, kept: Kept, since: int, until: int) -> tuple[Kept, int]:
        """The monitor with a batch of what arrived, and where the batch ends."""
        named = watched.tenant.tenant_id, watched.slo.name
        fresh = self._stores.arrivals.fresh_outcomes(*named, since, until)
        known = inputs(watched.certificate).get("horizon", 0) if watched.certificate else 0
        return kept.counting(fresh, new=since >= known), fresh.until

    def _write(self, watched: Watched, kept: Kept, until: int, now: datetime) -> Event | None:
        before = watched.monitor
        record, event = record_of(
            kept,
            before,
            tenant=(watched.tenant.tenant_id, watched.tenant.name),
            slo_name=watched.slo.name,
            until=until,
            now=now,
            tell=self._teller.tells(watched.tenant.tenant_id),
        )
        self._replace(watched, record)
        if event is not None:
            said = {name: event[name] for name in ("tenant", "slo", "before", "state")}
            statement = event["statement"]
            self._log.warning(
                "slo state changed", **said, event_id=event["id"], statement=statement
            )
        return event

    def _replace(self, watched: Watched, record: MonitorRecord) -> None:
        self._stores.promises.write_monitor(record, before=watched.monitor, actor=ACTOR)
        watched.monitor = record

    def _tell(self, plan: Plan, now: datetime) -> None:
        """Posts events that are untold; what was taken is crossed off at once."""
        known = [(each, kept) for each in plan.watched if (kept := kept_of(each.monitor))]
        untold = [(each.tenant.tenant_id, event) for each, kept in known for event in kept.untold]
        if not untold:
            return
        taken = self._teller.tell(untold, now, self._stores.webhooks, self._log.warning)
        for watched, kept in known:
            left = kept.told(taken)
            if watched.monitor is not None and left != kept:
                crossed_off = partial(self._write, watched, left, watched.monitor.seen_until, now)
                self._guarded(watched, crossed_off, now)

    def _due(self, plan: Plan, now: datetime) -> list[Watched]:
        """Slos to certify: those with no certificate for their versions, then grown evidence."""
        lacking = [each for each in plan.watched if not fits(plan, each)]
        aged = [each for each in plan.watched if fits(plan, each) and grown(plan, each, now)]
        return lacking + aged

    def _certify(self, plan: Plan, watched: Watched, horizon: int, now: datetime) -> None:
        known = self._stores.promises.certificates(
            watched.tenant.tenant_id, watched.slo.name, MOST_LOOKS
        )
        cut, change = since_change(known, plan.cut or Cut(since=_ALWAYS, why="no policy"))
        subject = Subject(
            tenant_id=watched.tenant.tenant_id,
            slo=watched.slo,
            policy=plan.policy,
            cut=cut,
            catalog_revision=plan.catalog_revision,
            horizon=horizon,
            before=watched.certificate,
            looks=looks_of(known, (watched.slo.version, plan.policy.version)),
            change=change,
        )
        record = write_up(subject, self._stores.watching, now=now)
        self._put(watched, record, horizon)
        self._log.info(
            "slo certified",
            tenant=watched.tenant.name,
            slo=watched.slo.name,
            slo_version=record.slo_version,
            policy=record.policy_version,
            said=record.body["message"],
        )

    def _put(self, watched: Watched, record: CertificateRecord, horizon: int) -> None:
        self._stores.promises.write_certificate(record, actor=ACTOR)
        watched.certificate = record
        watched.awaited, watched.awaited_until = 0, horizon

    def _rest(self, watched: Watched, now: datetime, pause: timedelta, why: str) -> None:
        """Leaves an slo alone for a while that could not be watched."""
        self._resting[watched.name] = now + pause
        tenant, slo = watched.name
        self._log.error("slo not watched for a minute", tenant=tenant, slo=slo, why=why)

    def _rests(self, watched: Watched, now: datetime) -> bool:
        return self._resting.get(watched.name, now) > now
