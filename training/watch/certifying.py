"""A certificate from a tenant's own interactions, as the watcher writes it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from uuid import UUID

from router.errors import InvalidInput
from router.ids import derived_uuid7
from router.policy.certificate import Certificate, Status, Window, share_of
from router.policy.change import Found
from router.policy.hedging import needed
from router.policy.novelty import is_novel
from router.policy.policy import Policy
from router.slo import Slo
from router.store.promise_seams import CertificateRecord
from router.store.watching import PostgresWatching, ScoredRows
from router.types import PolicyRecord
from training.certifying import VARIANCE, certificate
from training.log.dataset import Dataset
from training.log.sources import from_batches

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
    to be read. `looks` were taken at interactions for these versions before. `change` is the
    fall of accuracy that the interactions follow, if any.
    """

    tenant_id: UUID
    slo: Slo
    policy: Policy
    cut: Cut
    catalog_revision: int
    horizon: int
    before: CertificateRecord | None
    looks: int = 0
    change: Found | None = None


def write_up(subject: Subject, watching: PostgresWatching, *, now: datetime) -> CertificateRecord:
    """The certificate of the slo under the policy, or of why there is none.

    Only the slo's own interactions count: other slos' queries are drawn unlike its own. The
    body is the certificate with `inputs`: since when interactions counted and why, how many
    were unlike those of training, and the number of the look. The same inputs give the same
    id.
    """
    slo, cut = subject.slo, subject.cut
    rows = watching.scored(subject.tenant_id, slo.name, cut.since)
    found, look = _looked(subject, rows)
    inputs = {
        "look": look,
        "since": cut.since.isoformat(),
        "since_is": cut.why,
        "own": len(rows),
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
        body=found.to_mapping() | {"inputs": inputs} | _change(subject),
    )


def _change(subject: Subject) -> dict[str, Any]:
    return {"change": subject.change.to_mapping()} if subject.change else {}


def later(now: datetime, before: datetime | None) -> datetime:
    """The time, or a moment after what came before it where a clock stood ahead."""
    return now if before is None else max(now, before + timedelta(microseconds=1))


def inputs(record: CertificateRecord) -> Mapping[str, Any]:
    """What `write_up` said of the inputs; empty for a certificate of another maker."""
    found = record.body.get("inputs")
    return found if isinstance(found, Mapping) else {}


def looks_of(records: Iterable[CertificateRecord], versions: tuple[int, int]) -> int:
    """How many looks were taken at interactions for the versions of an slo and of the policy."""
    same = [each for each in records if (each.slo_version, each.policy_version) == versions]
    counted = [inputs(each).get("look") for each in same]
    return max([counted.count(None), *(int(look) for look in counted if look is not None)])


def _looked(subject: Subject, rows: ScoredRows) -> tuple[Certificate, int]:
    """The certificate and the number of its look; where nothing was to see it spends none."""
    times = rows.batch["occurred_at"].to_pylist()
    if not times:
        why = "no outcome of its own yet of a query that the policy was not trained on"
        return _nothing(subject, 0, None, why), subject.looks
    window, look = Window(since=min(times), until=max(times)), subject.looks + 1
    try:
        table = from_batches([rows.batch], skip_bad_rows=True).table
        dataset = Dataset.from_table(table)
        found = certificate(subject.policy, dataset, subject.slo, window=window, look=look)
    except InvalidInput as error:
        return _nothing(subject, len(rows), window, error.message), subject.looks
    return replace(found, message=f"{found.message} (look {look} at own outcomes)"), look


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
    level = (1.0 - slo.confidence) * share_of(subject.looks + 1)
    count = needed(VARIANCE, gap, level) if gap > 0.0 else MOST_NEEDED
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
