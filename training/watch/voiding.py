"""A certificate is void once accuracy is no longer what it was measured to be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from router.ids import derived_uuid7
from router.policy.certificate import Status
from router.policy.change import Found, read_found
from router.store.promise_seams import CertificateRecord, MonitorRecord
from training.watch.certifying import Cut, inputs, later
from training.watch.monitoring import Event

CHANGED = "fall of accuracy"


def change_of(record: CertificateRecord) -> Found | None:
    """The fall that a certificate says of; None where it says of none."""
    try:
        return read_found(record.body.get("change"))
    except (KeyError, TypeError, ValueError):
        return None


def tells_of_fall(record: MonitorRecord) -> bool:
    """Whether it is worth the while to read what a monitor keeps."""
    change = record.body.get("change")
    return isinstance(change, Mapping) and change.get("found") is not None


def since_change(known: Iterable[CertificateRecord], cut: Cut) -> tuple[Cut, Found | None]:
    """From when on interactions count, and the fall that they follow, if it came after the cut.

    `known` are the slo's certificates under all versions, newest first.
    """
    found = next((each for record in known if (each := change_of(record))), None)
    if found is None or datetime.fromisoformat(found.since) <= cut.since:
        return cut, None
    return Cut(since=datetime.fromisoformat(found.since), why=CHANGED), found


def voided(
    record: CertificateRecord, found: Found, *, horizon: int, now: datetime
) -> CertificateRecord | None:
    """What takes the certificate's place for the fall; None where it says so already.

    A new certificate is made of what was decided since the fall, and spends its own look.
    The same fall gives the same id.
    """
    known = change_of(record)
    if known is not None:
        newest = max((known, found), key=lambda each: datetime.fromisoformat(each.since))
        found = replace(newest, fallen=tuple(sorted({*known.fallen, *found.fallen})))
    if found == known:
        return None
    told = {"own": found.outcomes, "since": found.since, "since_is": CHANGED, "horizon": horizon}
    said = {
        "status": Status.VOIDED.value,
        "message": f"void: {found}; safe arms until decisions since then are certified",
        "lower_bound": 0.0,
        "needed_n": None,
        "change": found.to_mapping(),
        "inputs": {**inputs(record), **told},
    }
    at, name = datetime.fromisoformat(found.since), (str(record.tenant_id), record.slo_name)
    return replace(
        record,
        certificate_id=derived_uuid7(at, *name, str(record.certificate_id), *found.fallen),
        created_at=later(now, record.created_at),
        body={**record.body, **said},
    )


def event_of(record: CertificateRecord, before: str, tenant: str, now: datetime) -> Event:
    """What webhooks are told of a void certificate."""
    change: Any = record.body["change"]
    certificate_id = str(record.certificate_id)
    return {
        "id": str(derived_uuid7(datetime.fromisoformat(change["since"]), certificate_id)),
        "at": now.isoformat(),
        "kind": "certificate",
        "tenant": tenant,
        "slo": record.slo_name,
        "slo_version": record.slo_version,
        "policy_version": record.policy_version,
        "before": before,
        "state": Status.VOIDED.value,
        "certificate_id": certificate_id,
        "why": record.body["message"],
        "statement": change,
    }
