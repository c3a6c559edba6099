"""From reports over a real channel to what training learns of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from router.bundle.embedder import load_embedder
from router.store.attempts import attempts
from router.store.engine import DatabaseRole, connect
from router.v1 import router_pb2 as pb
from tests.integration.test_serving import eventually
from tests.kit.bundles import KEY
from tests.kit.policies import catalog
from tests.kit.postgres import rows
from tests.kit.server import Admin, Stubs, serving
from tests.kit.serving_bundles import bundle
from training.scores.interactions import Settled, settle

REPORTS: dict[str, list[dict[str, Any]]] = {
    "right": [{"score": 1.0, "source": "exact", "cost_usd": 0.25, "confidence": -0.5}],
    "timed out": [
        {"score": 0.0, "source": "exact", "error": "timeout", "cost_usd": 0.5, "latency_s": 60.0}
    ],
    "failed, then blamed": [
        {"error": "503", "latency_s": 1.0},
        {"score": 0.0, "source": "feedback"},
    ],
    "nobody said anything": [],
}


def test_only_answers_are_right_or_wrong(dsn: str, tmp_path: Path) -> None:
    with Admin(dsn) as admin:
        admin.seed(catalog(), "acme", signer=KEY)
        record = admin.registry.register(bundle(catalog()), {}, actor="test")
        admin.registry.promote(record.version, actor="test")
        with serving(tmp_path, dsn, workers="1", authentication="api_key") as server:
            with Stubs(server.address, admin.key("acme")) as stubs:
                predicted = {query: _reported(stubs, query) for query in REPORTS}
            count = "select (select count(*) from decisions), (select count(*) from outcomes)"
            eventually(lambda: rows(dsn, count) == [(4, 4)])
    found = _settled(dsn)
    told = {row["query"]: row for row in found.log.table.to_pylist()}
    assert {query: row["score"] for query, row in told.items()} == {
        "right": 1.0,
        "timed out": None,
        "failed, then blamed": None,
    }
    assert (told["timed out"]["cost_usd"], told["timed out"]["latency_s"]) == (0.5, 60.0)
    assert (found.summary["failed"], found.summary["attempts"]) == (2, 4)
    assert 0.0 < predicted["right"] < 1.0


def _reported(stubs: Stubs, query: str) -> float:
    """What the arm's accuracy was said to be, once all is reported of it."""
    routed = stubs.router.Route(pb.RouteRequest(text=query))
    for report in REPORTS[query]:
        stubs.router.ReportOutcome(
            pb.ReportOutcomeRequest(decision_id=routed.decision_id, **report)
        )
    return float(routed.chosen.accuracy)


def _settled(dsn: str) -> Settled:
    engine = connect(dsn, role=DatabaseRole.TRAINER)
    try:
        batches = list(attempts(engine))
        assert all(row["predicted_accuracy"] for batch in batches for row in batch.to_pylist())
        now = datetime.now(UTC) + timedelta(hours=1)
        return settle(batches, now=now, embedder=load_embedder())
    finally:
        engine.dispose()
