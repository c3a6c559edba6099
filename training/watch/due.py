"""When a floor is to be certified, and what its monitor goes on from."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from router.store.promise_seams import MonitorRecord
from training.watch.certifying import inputs
from training.watch.monitoring import Kept, begun, has_grown, kept_of
from training.watch.plan import Plan, Watched
from training.watch.times import IDLE_WRITE


def fits(plan: Plan, watched: Watched) -> bool:
    """Whether its certificate is for its version under the policy that serves."""
    found = watched.certificate
    versions = watched.slo.version, plan.policy.version
    return found is not None and (found.slo_version, found.policy_version) == versions


def grown(plan: Plan, watched: Watched, now: datetime) -> bool:
    """Whether what the certificate rests on is more, or other, than it was."""
    if watched.certificate is None:
        return False
    if inputs(watched.certificate).get("catalog_revision") != plan.catalog_revision:
        return True
    kept = kept_of(watched.monitor)
    return has_grown(watched.certificate, kept, now, awaited=watched.awaited)


def going_on(plan: Plan, watched: Watched) -> Kept | None:
    """The monitor to go on with, or a new one for new versions; None until these are certified."""
    if watched.certificate is None or not fits(plan, watched):
        return None
    known = kept_of(watched.monitor)
    if known is not None and known.versions == (watched.slo.version, plan.policy.version):
        return known.under(watched.certificate)
    new = begun(watched.slo, watched.certificate)
    return new if new is None or known is None else replace(new, untold=known.untold)


def is_news(
    kept: Kept, counted: Kept, before: MonitorRecord | None, until: int, now: datetime
) -> bool:
    """Whether to write: something was counted or begun, or the place was not moved for long."""
    known = kept_of(before)
    if before is None or known is None or known.versions != kept.versions:
        return True
    if counted.monitor.tally != kept.monitor.tally or until < before.seen_until:
        return True
    return until != before.seen_until and now - before.updated_at >= IDLE_WRITE
