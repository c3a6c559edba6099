"""A certificate from a tenant's own interactions, as the watcher writes it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from uuid import UUID

from router.errors import InvalidInput
from router.ids import derived_uuid7
from router.policy.certificate import Certificate, Status, Window
from router.policy.hedging import needed
from router.policy.novelty import is_novel
from router.policy.policy import Policy
from router.slo import Slo
from router.store.promise_seams import CertificateRecord
from router.store.watching import PostgresWatching, ScoredRows
from router.types import PolicyRecord
from training.certifying import VARIANCE, certificate
from training.dataset import Dataset
from training.sources import from_batches

LEAST_OWN = 300
"""With fewer scored decisions of its own an slo is certified from all of its tenant's."""

MOST_NEEDED = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """From when on interactions have not taught the policy, and how that is known."""

    since: datetime
    why: str

    @classmethod
    def of(cls, record: PolicyRecord) -> Self:
        """The newest time in what trained it; where that is unknown, its promotion.

        What was decided after the policy was registered cannot have taught it, whatever
        times its log has.
        """
        try:
            watermark = datetime.fromisoformat(record.summary.get("watermark") or "")
        except (TypeError, ValueError):
            return cls(since=record.promoted_at or record.created_at, why="promotion")
        known = watermark if watermark.tzinfo else watermark.replace(tzinfo=UTC)
        return cls(since=min(known, record.created_at), why="training cut-off")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is to be certified, for whom, and under which policy.

    `before` is the certificate in force, and what arrived before the place `horizon` is there
    to be read.
    """

    tenant_id: UUID
    slo: Slo
    policy: Policy
    cut: Cut
    catalog_revision: int
    horizon: int
    before: CertificateRecord | None


def write_up(subject: Subject, watching: PostgresWatching, *, now: datetime) -> CertificateRecord:
    """The certificate of the slo under the policy, or of why there is none.

    Its body is the certificate with `inputs`: whose interactions these were, since when and
    why, and how many were unlike those of training. The same inputs give the same id.
    """
    slo, cut = subject.slo, subject.cut
    rows, own = _rows(subject, watching)
    found = _certificate(subject, rows)
    inputs = {
        "whose": "slo" if own == len(rows) else "tenant",
        "since": cut.since.isoformat(),
        "since_is": cut.why,
        "interactions": len(rows),
        "own": own,
        "novel": sum(map(is_novel, rows.novelty)),
        "catalog_revision": subject.catalog_revision,
        "horizon": subject.horizon,
    }
    return CertificateRecord(
        tenant_id=subject.tenant_id,
        certificate_id=_id(subject, found),
        slo_name=slo.name,
        slo_version=slo.version,
        policy_version=subject.policy.version,
        created_at=later(now, subject.before.created_at if subject.before else None),
        body=found.to_mapping() | {"inputs": inputs},
    )


def later(now: datetime, before: datetime | None) -> datetime:
    """The time, or a moment after what came before it where a clock stood ahead."""
    return now if before is None else max(now, before + timedelta(microseconds=1))


def inputs(record: CertificateRecord) -> Mapping[str, Any]:
    """What `write_up` said of the inputs; empty for a certificate of another maker."""
    found = record.body.get("inputs")
    return found if isinstance(found, Mapping) else {}


def _rows(subject: Subject, watching: PostgresWatching) -> tuple[ScoredRows, int]:
    """The slo's own interactions, or all of the tenant's while its own are few; and how few."""
    since = subject.cut.since
    own = watching.scored(subject.tenant_id, subject.slo.name, since)
    if len(own) >= LEAST_OWN:
        return own, len(own)
    return watching.scored(subject.tenant_id, "", since), len(own)


def _certificate(subject: Subject, rows: ScoredRows) -> Certificate:
    times = rows.batch["occurred_at"].to_pylist()
    window = Window(since=min(times), until=max(times)) if times else None
    if window is None:
        why = "no outcome yet of a query that the policy was not trained on"
        return _nothing(subject, 0, None, why)
    try:
        table = from_batches([rows.batch], skip_bad_rows=True).table
        return certificate(subject.policy, Dataset.from_table(table), subject.slo, window=window)
    except InvalidInput as error:
        return _nothing(subject, len(rows), window, error.message)


def _nothing(subject: Subject, rows: int, window: Window | None, why: str) -> Certificate:
    """That nothing can be certified, with a guess of what it would take."""
    slo, tradeoff = subject.slo, subject.policy.tradeoff
    needs = _needs(subject) if rows == 0 else None
    about = "" if needs is None else f", needs about {needs:,}"
    return Certificate(
        status=Status.NOT_CERTIFIABLE,
        message=f"not certifiable: n = {rows:,}{about}; {why}",
        floor=slo.min_accuracy or 0.0,
        reference_arm=slo.reference_arm,
        reference_share=slo.min_relative_accuracy,
        confidence=slo.confidence,
        estimate=0.0,
        lower_bound=0.0,
        n=rows,
        effective_n=0.0,
        needed_n=needs,
        value_usd=float(tradeoff.value_usd[-1]) if tradeoff else 0.0,
        cost_usd=float(tradeoff.cost_usd[-1]) if tradeoff else 0.0,
        window=window,
        source_digest=hashlib.sha256(why.encode()).hexdigest(),
        policy_version=subject.policy.version,
    )


def _needs(subject: Subject) -> int | None:
    """About how many interactions would do, if the policy's own expectation held."""
    slo, tradeoff = subject.slo, subject.policy.tradeoff
    if tradeoff is None or slo.min_accuracy is None:
        return None
    gap = float(tradeoff.accuracy.max()) - slo.min_accuracy
    count = needed(VARIANCE, gap, 1.0 - slo.confidence) if gap > 0.0 else MOST_NEEDED
    return count if count < MOST_NEEDED else None


def _id(subject: Subject, found: Certificate) -> UUID:
    """Follows from what was certified from what, and from the certificate before it."""
    before = str(subject.before.certificate_id) if subject.before else ""
    at = found.window.until if found.window else subject.cut.since
    versions = (subject.slo.version, found.policy_version, subject.catalog_revision)
    return derived_uuid7(
        at,
        *(str(subject.tenant_id), subject.slo.name, before, found.source_digest),
        *map(str, versions),
    )
