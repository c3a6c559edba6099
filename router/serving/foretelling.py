"""Whether a floor could be certified, told from the certificate that its name has already."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from router.policy.certificate import Status
from router.slo import Slo
from router.store.promise_seams import CertificateRecord, Promises

Certify = Callable[[UUID, Slo], tuple[bool, str] | None]
"""Whether the tenant's floor could be certified, and why; None where nobody can say."""


def by_certificates(promises: Promises) -> Certify:
    """Says what the newest certificate of the slo's name tells of an absolute floor."""

    def certify(tenant_id: UUID, slo: Slo) -> tuple[bool, str] | None:
        found = promises.current(tenant_id).get(slo.name)
        if found is None or found.certificate is None or slo.min_accuracy is None:
            return None
        return _told(found.certificate, slo.min_accuracy, slo.confidence)

    return certify


def _told(record: CertificateRecord, floor: float, confidence: float) -> tuple[bool, str] | None:
    """A floor at or below a certified one is certifiable; one above an uncertified one is not."""
    body: dict[str, Any] = dict(record.body)
    if body.get("reference_arm") or "floor" not in body:
        return None
    said = f"version {record.slo_version}: {body.get('message') or body['status']}"
    certified = body["status"] == Status.CERTIFIED
    if certified and floor <= body["floor"] and confidence <= body["confidence"]:
        return True, said
    if not certified and floor >= body["floor"] and confidence >= body["confidence"]:
        return False, said
    return None
