"""A dry run says of a floor what the certificate of its name tells."""

from __future__ import annotations

from uuid import uuid4

import pytest

from router.serving.foretelling import by_certificates
from router.slo import Slo
from router.store.memory import MemoryPromises
from tests.kit.records import certificate

TENANT = uuid4()


@pytest.mark.parametrize(
    ("status", "floor", "confidence", "certifiable"),
    [
        ("certified", 0.8, 0.95, True),
        ("certified", 0.7, 0.9, True),
        ("certified", 0.81, 0.95, None),
        ("certified", 0.8, 0.99, None),
        ("not_certifiable", 0.8, 0.95, False),
        ("not_certifiable", 0.7, 0.95, None),
    ],
)
def test_a_floor_no_higher_than_a_certified_one_is_certifiable(
    status: str, floor: float, confidence: float, certifiable: bool | None
) -> None:
    promises = MemoryPromises()
    body = {"status": status, "message": "said", "floor": 0.8, "confidence": 0.95}
    promises.write_certificate(certificate(TENANT, "chat", body=body), actor="test")
    asked = Slo(name="chat", min_accuracy=floor, confidence=confidence)
    found = by_certificates(promises)(TENANT, asked)
    assert (None if found is None else found[0]) is certifiable
    assert found is None or "said" in found[1]


def test_of_other_names_and_relative_floors_nobody_can_say() -> None:
    certify = by_certificates(MemoryPromises())
    assert certify(TENANT, Slo(name="new", min_accuracy=0.5)) is None
    assert certify(TENANT, Slo(min_relative_accuracy=0.9, reference_arm="a:single")) is None
