"""What is promised of an slo's floor, as decisions take it from what is in force."""

from __future__ import annotations

from collections.abc import Mapping

from router.conditions import MonitorState, Promise
from router.slo import AccuracyScope, Slo
from router.store.promise_seams import InForce

NamedPromises = Mapping[str, InForce]

CERTIFIED = "certified"


def promised(found: InForce, slo: Slo, policy_version: int) -> Promise | None:
    """The promise of the slo under the policy; None where nothing is said of the two.

    A floor that outcomes have broken stays broken until the slo or the policy is another.
    """
    certificate, monitor = found.certificate, found.monitor
    if not slo.has_floor or slo.accuracy_scope is AccuracyScope.PER_QUERY or certificate is None:
        return None
    if (certificate.slo_version, certificate.policy_version) != (slo.version, policy_version):
        return None
    body = certificate.body
    return Promise(
        certificate_id=str(certificate.certificate_id),
        value_usd=body["value_usd"] if body["status"] == CERTIFIED else None,
        monitor=MonitorState.HOLDING if monitor is None else monitor.state,
    )
