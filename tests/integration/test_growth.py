"""Databases that have grown, at the size of a test: what fills them, and that training reads it."""

from __future__ import annotations

from router.store.attempts import attempts
from router.store.engine import DatabaseRole, connect
from tests.kit.growth import CATALOG, TENANTS, Growth, ended, grow


def test_a_grown_database_holds_what_training_reads(dsn: str) -> None:
    grow(dsn, Growth(decisions=300, copies=3, until=ended()))
    engine = connect(dsn, role=DatabaseRole.TRAINER)
    found = [row for batch in attempts(engine) for row in batch.to_pylist()]
    engine.dispose()
    assert len({row["decision_id"] for row in found}) == len(found) == 900
    assert {row["tenant"] for row in found} == set(TENANTS)
    assert 0.3 < sum("exact" in (row["sources"] or ()) for row in found) / 900 < 0.7
    assert all(row["cost_usd"] > 0 and row["predicted_accuracy"] is not None for row in found)
    assert len(CATALOG.arms) == 24
    times = [row["occurred_at"] for row in found]
    assert times == sorted(times)
    assert (times[-1] - times[0]).days >= 170
