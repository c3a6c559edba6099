"""leadline slos set --dry-run: what an slo would have done, worked out here and shown."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from router.commands.explained import of
from router.commands.output import say, table
from router.policy.policy import Policy, static_policy
from router.serving.foretelling import by_certificates
from router.serving.rehearsing import Rehearsing
from router.store.catalog import PostgresCatalog
from router.store.promises import PostgresPromises
from router.store.registry import PostgresRegistry
from router.store.rehearsing import PostgresPast
from router.types import Catalog

if TYPE_CHECKING:
    from router.clients.values import DryRun
    from router.commands.database import Database
    from router.policy.rehearsal import Estimate
    from router.slo import Slo

_ROWS = (
    ("accuracy", "accuracy", "accuracy"),
    ("cost, USD", "cost_usd", "cost_usd"),
    ("latency p50, s", "latency_p50_s", ""),
    ("latency p95, s", "latency_p95_s", ""),
    ("energy, Wh", "energy_wh", ""),
    ("latency, s", "", "latency_s"),
)
_SUPPORTED = 0.8


def dry_run(opened: Database, tenant_id: UUID, slo: Slo, window: timedelta) -> DryRun:
    """What the slo would have done under the active policy. Raises BundleRefused."""
    catalog = PostgresCatalog(opened.router).read()
    certify = by_certificates(PostgresPromises(opened.router))
    return Rehearsing(PostgresPast(opened.router), certify).dry_run(
        tenant_id,
        slo,
        policy=_active(opened, catalog),
        catalog=catalog,
        until=datetime.now(UTC),
        window=window,
    )


def _active(opened: Database, catalog: Catalog) -> Policy:
    """The active policy over the catalog; the static one where there is none."""
    record = PostgresRegistry(opened.admin).active()
    if record is None or not catalog.arms:
        return static_policy(catalog)
    return of(opened, record.version, catalog).bound


def show(found: DryRun, since: str) -> None:
    """Prints what an slo would have done, for people."""
    for text in found.warnings:
        say(f"warning: {text}")
    rehearsal = found.rehearsal
    if not rehearsal.decisions:
        say(f"there are no decisions of the last {since} to try it on; route some, or look back")
        say("further with --since")
        return
    whose = f"slo {found.decisions_of!r}" if found.decisions_of else "all the tenant's slos"
    say(
        f"looked at {rehearsal.decisions:,} of {found.decisions_found:,} decisions of {whose} "
        f"since {found.oldest:%Y-%m-%d %H:%M}, chosen again by policy {found.policy_version}"
    )
    columns = ("", "as decided", "under the slo", "by outcomes", "+-", "outcomes", "effective")
    table([_row(found, *names) for names in _ROWS], columns)
    for line in _said(found):
        say(line)


def _row(found: DryRun, label: str, figure: str, estimate: str) -> tuple[Any, ...]:
    rehearsal = found.rehearsal
    known: Estimate | None = getattr(rehearsal, estimate) if estimate else None
    shown = (
        (known.mean, known.standard_error, known.outcomes, round(known.effective_outcomes, 1))
        if known
        else (None,) * 4
    )
    figures = (rehearsal.decided, rehearsal.predicted)
    return (label, *(getattr(each, figure, None) for each in figures), *shown)


def _said(found: DryRun) -> Iterator[str]:
    rehearsal = found.rehearsal
    yield f"no arm meets it: {_percent(rehearsal.infeasible_share)} of the decisions"
    if rehearsal.rejected_share:
        yield f"refused: {_percent(rehearsal.rejected_share)}"
    yield f"another arm: {_percent(rehearsal.changed_share)} of those that were not explored"
    if rehearsal.continuing:
        yield f"{rehearsal.continuing:,} may continue; all figures are those of the first arm"
    if found.of_other_policies:
        yield f"{found.of_other_policies:,} were predicted by another policy than the active one"
    known = rehearsal.accuracy
    if known is None:
        yield "no outcomes with propensities tell its accuracy; it is as predicted"
    elif known.support < _SUPPORTED:
        yield (
            f"the log has tried {known.support:.0%} of what it would take, so the outcomes tell of "
            "a part of the queries; an exploration_rate widens that"
        )
    if found.certifiable is not None:
        able = "certifiable" if found.certifiable else "not certifiable"
        yield f"{able}: {found.certificate_note}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
