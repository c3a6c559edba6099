"""What is promised of an slo's floor, as decisions take it from what is in force."""

from __future__ import annotations

from collections.abc import Mapping

from router.conditions import MonitorState, Promise
from router.policy.certificate import Status
from router.slo import AccuracyScope, Slo
from router.store.promise_seams import InForce, MonitorRecord

NamedPromises = Mapping[str, InForce]


def promised(found: InForce, slo: Slo, policy_version: int) -> Promise | None:
    """The promise of the slo under the policy; None where its name was never certified.

    Until the certificate of a new version of either is there, nothing is promised, and the
    decision takes the safe side. A monitor speaks of its own versions alone.
    """
    certificate, monitor = found.under(policy_version), found.monitor
    if not slo.has_floor or slo.accuracy_scope is AccuracyScope.PER_QUERY or certificate is None:
        return None
    versions, body = (slo.version, policy_version), certificate.body
    fallen = tuple((body.get("change") or {}).get("fallen", ()))
    if (certificate.slo_version, certificate.policy_version) != versions:
        return Promise(certificate_id="", value_usd=None, fallen=fallen)
    return Promise(
        certificate_id=str(certificate.certificate_id),
        value_usd=body["value_usd"] if body["status"] == Status.CERTIFIED else None,
        monitor=MonitorState.HOLDING if monitor is None else _state(monitor, versions),
        fallen=fallen,
    )


def _state(monitor: MonitorRecord, versions: tuple[int, int]) -> MonitorState:
    """What outcomes say of these versions; holding while the monitor is of others."""
    said = monitor.body.get("slo_version"), monitor.body.get("policy_version")
    return monitor.state if said in (versions, (None, None)) else MonitorState.HOLDING
