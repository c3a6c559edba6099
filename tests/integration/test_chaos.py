"""What was acknowledged is there once, whatever is killed; the full size is `make promises`."""

from __future__ import annotations

import pytest

from tests.kit import chaos

pytestmark = pytest.mark.timeout(120)


def test_an_acknowledged_row_survives_kill_9_of_the_server() -> None:
    found = chaos.kill_server(1)
    assert found.audit.clean, found
    assert found.audit.decisions > 50


def test_an_acknowledged_row_survives_kill_9_of_postgres() -> None:
    found = chaos.kill_postgres(1)
    assert found.audit.clean, found
    assert not found.failed
