"""Replay is Route and Continue, and reads nothing of a log but the attempts that it makes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router import pipeline
from router.bundle.embedder import load_embedder
from router.bundle.loader import load_archive
from router.commands import recorded
from router.errors import Infeasible
from router.ids import uuid7
from router.loading import bind, learned
from router.offline import Policy
from router.policy import policy as policies
from router.policy.continuation import MAX_ATTEMPTS, Tried
from router.settings import Settings
from router.slo import AccuracyScope, OnInfeasible, Slo
from router.types import Bounds, Evidence, Query
from tests.kit.bundles import KEY, NOW, TRUSTED
from tests.kit.policies import catalog
from tests.kit.serving_bundles import bundle

TEXTS = [f"What is {number} + {number * number}?" for number in range(30)]
SLOS = [
    *(Slo(accuracy_value_usd=value) for value in (1e-4, 3e-3, 0.01, 0.1, 1.0)),
    Slo(),
    Slo(min_accuracy=0.7),
    Slo(min_accuracy=0.7, accuracy_scope=AccuracyScope.PER_QUERY),
    Slo(accuracy_value_usd=0.1, max_cost_usd=0.0025),
    Slo(accuracy_value_usd=0.1, max_latency_s=4.0),
    Slo(accuracy_value_usd=0.1, excluded_models=("m1", "m2")),
    Slo(max_cost_usd=1e-9, on_infeasible=OnInfeasible.REJECT),
]

Row = dict[str, Any]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "policy.zip"
    path.write_bytes(bundle(catalog()))
    return path


@pytest.fixture(scope="module")
def policy(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Policy:
    config = Settings.model_validate({"state_dir": tmp_path_factory.mktemp("state")})
    return Policy.load(archive, trusted_keys=[KEY.public_key.hex()], settings=config)


@pytest.fixture(scope="module")
def bound(archive: Path) -> policies.Policy:
    loaded = load_archive(archive.read_bytes(), trusted=TRUSTED, probe=False)
    return bind(learned(loaded, load_embedder()), catalog(), 0)


def rows(seed: int = 0) -> list[Row]:
    """A full-information log; a few figures are missing."""
    rng = np.random.default_rng(seed)
    return [
        {
            "query_id": f"q{place}",
            "query": text,
            "model": arm.model,
            "strategy": str(arm.strategy),
            "strategy_params": json.dumps(dict(arm.params)),
            "score": float(rng.integers(0, 2)),
            "confidence": None if rng.random() < 0.1 else float(rng.uniform(-1, 1)),
            "cost_usd": None if rng.random() < 0.1 else float(rng.uniform(5e-4, 2e-3)),
            "latency_s": float(rng.uniform(0.5, 3.0)),
        }
        for place, text in enumerate(TEXTS)
        for arm in catalog().arms
    ]


def read(table: Sequence[Row], path: Path) -> list[recorded.RecordedQuery]:
    pa.parquet.write_table(pa.Table.from_pylist(list(table)), path)
    return list(recorded.read(path))


def key(row: Row) -> str:
    return next(
        arm.key
        for arm in catalog().arms
        if (arm.model, arm.strategy) == (row["model"], row["strategy"])
        and dict(arm.params) == json.loads(row["strategy_params"])
    )


def test_replay_walks_as_route_and_continue_do(
    policy: Policy, bound: policies.Policy, tmp_path: Path
) -> None:
    log = read(rows(), tmp_path / "log.parquet")
    replayed = iter(policy.replay(log, SLOS))
    walked = 0
    for slo in SLOS:
        for query in log:
            _, found = next(replayed)
            tried, kept = online(bound, query, slo)
            assert [arm.key for arm, _ in found.attempts] == [bound.table.keys[i] for i in tried]
            assert (found.final and found.final.key) == (None if kept is None else kept)
            walked += len(tried)
    assert walked > 1.2 * len(log) * (len(SLOS) - 1)


def online(
    bound: policies.Policy, recorded_query: recorded.RecordedQuery, slo: Slo
) -> tuple[list[int], str | None]:
    """Attempts and the kept arm's key, decided one by one as a server does."""
    query, bounds = Query(text=recorded_query.asked.text), Bounds(may_continue=True)
    try:
        decision = pipeline.decide(bound, query, slo, bounds, decision_id=uuid7(NOW), now=NOW)
    except Infeasible:
        return [], None
    tried: list[Tried] = []
    index: int | None = decision.choice.index
    best = 0
    while index is not None:
        tried.append(Tried(index=index, evidence=recorded_query.attempt(bound.table.keys[index])))
        step = pipeline.go_on(bound, query, slo, bounds, tried)
        assert step is not None
        best, index = step.best, step.next_index
    assert len(tried) <= MAX_ATTEMPTS
    return [each.index for each in tried], bound.table.keys[tried[best].index]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(SLOS[:9]))
def test_scores_and_the_columns_of_arms_that_were_not_attempted_change_nothing(
    policy: Policy, tmp_path_factory: pytest.TempPathFactory, seed: int, slo: Slo
) -> None:
    folder, rng, table = tmp_path_factory.mktemp("log"), np.random.default_rng(seed), rows()
    before = [found for _, found in policy.replay(read(table, folder / "a.parquet"), [slo])]
    attempted = {(each.query_id, arm.key) for each in before for arm, _ in each.attempts}
    for row in table:
        row["score"] = float(rng.random())
        if (row["query_id"], key(row)) not in attempted:
            row |= {
                "confidence": float(rng.normal()),
                "cost_usd": float(rng.uniform(0, 10)),
                "latency_s": float(rng.uniform(0, 100)),
            }
    after = [found for _, found in policy.replay(read(table, folder / "b.parquet"), [slo])]
    assert after == before


def test_a_log_without_scores_or_confidence_is_walked_with_one_attempt_each(
    policy: Policy, tmp_path: Path
) -> None:
    bare = [
        {name: value for name, value in row.items() if name not in {"score", "confidence"}}
        for row in rows()
    ]
    log = read(bare, tmp_path / "bare.parquet")
    slo = Slo(accuracy_value_usd=1e-3)
    for _, found in policy.replay(log, [slo]):
        assert len(found.attempts) == 1


def test_spent_cost_stays_within_the_bound_that_predictions_allow(
    policy: Policy, tmp_path: Path
) -> None:
    log = read(rows(), tmp_path / "log.parquet")
    bound_usd, expected_usd = 0.0025, 0.001
    for _, found in policy.replay(log, [Slo(accuracy_value_usd=10.0, max_cost_usd=bound_usd)]):
        *before, _ = [evidence for _, evidence in found.attempts]
        spent = sum(_cost(each, expected_usd) for each in before)
        assert spent + expected_usd <= bound_usd + 1e-9 or not before


def _cost(evidence: Evidence, expected_usd: float) -> float:
    return expected_usd if evidence.cost_usd is None else evidence.cost_usd
