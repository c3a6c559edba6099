"""From attempts and reports to targets: what counts, what is too young, what stands for what."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from router.store.attempts import SCHEMA
from tests.kit.embedding import embedder
from tests.kit.logs import text
from training.log.dataset import Dataset
from training.scores.interactions import Settled, settle
from training.shown import outcomes

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAY_S = 86_400.0

Said = dict[str, tuple[float, float]]
"""Scores by source, each with its delay in seconds."""


def made(number: int, said: Said, *, age_s: float = 30 * DAY_S, **columns: Any) -> dict[str, Any]:
    """An attempt that these sources scored."""
    heard = sorted(said)
    return {
        "query_id": f"q{number}",
        "query": text(number % 120, number % 6),
        "model": "small",
        "strategy": "single",
        "strategy_params": "{}",
        "cost_usd": 0.001,
        "occurred_at": NOW - timedelta(seconds=age_s),
        "decision_id": f"d{number}",
        "attempt": 0,
        "slo_name": "chat",
        "imported": False,
        "failed": False,
        "sources": heard,
        "scores": [said[source][0] for source in heard],
        "delays_s": [said[source][1] for source in heard],
        **columns,
    }


def settled(rows: Sequence[dict[str, Any]], now: datetime = NOW) -> Settled:
    batch = pa.RecordBatch.from_pylist(list(rows), schema=SCHEMA)
    return settle([batch], now=now, embedder=embedder())


def scores(found: Settled) -> dict[str, float | None]:
    table = found.log.table
    return dict(zip(table["query_id"].to_pylist(), table["score"].to_pylist(), strict=True))


def test_exact_scores_of_every_answer_stay_as_they_are() -> None:
    rows = [made(number, {"exact": (number % 3 / 2, 1.0)}) for number in range(90)]
    found = settled(rows)
    assert scores(found) == {f"q{number}": number % 3 / 2 for number in range(90)}
    assert found.log.table["score_weight"].null_count == 90
    assert found.summary["scored_share"] == 1.0
    assert found.summary["cautions"] == []


def test_a_backends_error_is_not_a_wrong_answer_whoever_says_so() -> None:
    rows = [made(number, {"exact": (1.0, 1.0)}) for number in range(60)]
    failures = [
        made(number, {"feedback": (0.0, 9.0)}, failed=True, latency_s=30.0)
        for number in range(60, 80)
    ]
    found = settled([*rows, *failures])
    told = scores(found)
    assert {told[f"q{number}"] for number in range(60, 80)} == {None}
    assert found.summary["failed"] == 20
    assert found.log.table["latency_s"].drop_null().to_pylist() == [30.0] * 20


def test_an_answer_that_is_too_young_is_neither_failed_nor_unscored() -> None:
    rng = np.random.default_rng(0)
    rows = []
    for number in range(600):
        age_s, delay_s = rng.uniform(0, 30) * DAY_S, rng.exponential(1.0) * DAY_S
        said = {"feedback": (1.0, delay_s)} if delay_s <= age_s and rng.random() < 0.5 else {}
        rows.append(made(number, said, age_s=age_s))
    found = settled(rows)
    due_s = found.summary["ripe_after_s"]["feedback"]
    young = sum((NOW - row["occurred_at"]).total_seconds() < due_s for row in rows)
    assert 2.0 * DAY_S < due_s < 5.0 * DAY_S
    assert found.summary["too_young"] == young > 0
    assert found.summary["scored_share"] == pytest.approx(0.5, abs=0.06)


def test_quick_scores_of_the_young_do_not_speak_for_those_to_come() -> None:
    """Complaints come at once, praise after days."""
    rng = np.random.default_rng(1)
    rows = []
    for number in range(3_000):
        right = float(rng.random() < 0.7)
        age_s, delay_s = rng.uniform(0, 10) * DAY_S, (2.0 * right + rng.random()) * DAY_S
        said = {"feedback": (right, delay_s)} if delay_s <= age_s else {}
        rows.append(made(number, said, age_s=age_s))
    told = [score for score in scores(settled(rows)).values() if score is not None]
    naive = [row["scores"][0] for row in rows if row["sources"]]
    assert np.mean(told) == pytest.approx(0.7, abs=0.025)
    assert np.mean(naive) < 0.66


def test_a_judge_is_weighed_by_what_exact_checks_say_of_it() -> None:
    rng = np.random.default_rng(2)
    rows, truth = [], []
    for number in range(1_500):
        right = float(rng.random() < 0.6)
        judged = right if rng.random() < (0.95 if right else 0.6) else 1.0 - right
        said = {"judge": (judged, 1.0)} | ({"exact": (right, 1.0)} if number % 5 == 0 else {})
        rows.append(made(number, said))
        truth.append(right)
    found = settled(rows)
    (_, judge) = found.summary["sources"]
    assert judge["sensitivity"]["low"] < 0.95 < judge["sensitivity"]["high"]
    assert judge["specificity"]["low"] < 0.6 < judge["specificity"]["high"]
    told = scores(found)
    assert [told[f"q{number}"] for number in range(0, 1_500, 5)] == truth[::5]
    rows_ = Dataset.from_table(found.log.table).rows
    assert np.average(rows_.score, weights=rows_.weight) == pytest.approx(np.mean(truth), abs=0.06)
    assert np.mean([row["scores"][-1] for row in rows]) > np.mean(truth) + 0.1


def seldom(seed: int, *, reported: bool = True) -> tuple[list[dict[str, Any]], float]:
    """Answers of which few are scored, the more the surer they look; and their true mean."""
    rng = np.random.default_rng(seed)
    rows, truth = [], []
    for number in range(6_000):
        right = float(rng.random() < 0.6)
        confidence = right + rng.normal()
        answers = rng.random() < 1.0 / (1.0 + np.exp(4.0 - 1.5 * confidence))
        known = {"confidence": confidence} if reported or answers else {}
        said = {"feedback": (right, 60.0)} if answers else {}
        rows.append(made(number, said, **known))
        truth.append(right)
    return rows, float(np.mean(truth))


def test_seldom_scores_stand_for_the_answers_that_nobody_scored() -> None:
    rows, truth = seldom(3)
    found = settled(rows)
    log = Dataset.from_table(found.log.table).rows
    scored = log.take(~np.isnan(log.score))
    assert scored.score.mean() > truth + 0.15
    assert np.average(scored.score, weights=scored.weight) == pytest.approx(truth, abs=0.06)
    (arm,) = found.summary["arms"].values()
    assert abs(arm["mean"] - truth) < 3.0 * arm["error"] < 0.2
    assert found.summary["known_of_every_answer"] == ["confidence"]
    assert 0.0 < found.summary["effective_scored"] < len(scored)


def test_what_is_reported_of_scored_answers_alone_is_no_covariate() -> None:
    rows, _ = seldom(4, reported=False)
    found = settled(rows)
    assert found.summary["known_of_every_answer"] == []
    assert any("report it with every" in caution for caution in found.summary["cautions"])
    assert found.summary["response_auc"] == pytest.approx(0.5, abs=0.1)


def test_what_a_row_costs_does_not_hang_on_who_scores_it() -> None:
    rows, _ = seldom(5)
    log = Dataset.from_table(settled(rows[:3_000]).log.table).rows
    assert not log.even
    assert log.spent().even


def test_the_same_attempts_give_the_same_log_whatever_the_time() -> None:
    rows, _ = seldom(6)
    first = settled(rows[:2_000])
    later = settled(rows[:2_000], NOW + timedelta(days=1))
    assert first.log.table.equals(later.log.table)


def test_history_counts_as_it_stands() -> None:
    rows = [
        made(number, {"import": (1.0, 1e9)}, imported=True, age_s=1e9, slo_name=None)
        for number in range(60)
    ]
    found = settled(rows)
    assert set(scores(found).values()) == {1.0}
    assert (found.summary["imported"], found.summary["too_young"]) == (60, 0)


def test_a_log_without_scores_says_so_and_breaks_nothing() -> None:
    found = settled([made(number, {}) for number in range(20)])
    assert set(scores(found).values()) == {None}
    assert found.summary["never_scored_slos"] == 20


def test_what_was_made_of_the_reports_is_told_in_lines() -> None:
    rows, _ = seldom(7)
    rng = np.random.default_rng(7)
    for number in range(300):
        right = float(rng.random() < 0.6)
        judged = right if rng.random() < 0.8 else 1.0 - right
        said = {"exact": (right, 1.0), "judge": (judged, 1.0)}
        rows[number] = made(number, said, confidence=0.0)
    rows[300] = made(300, {}, failed=True, confidence=0.0)
    first, judge, share, caution = outcomes(dict(settled(rows[:1_200]).summary))
    assert first.startswith("1,200 attempts: ")
    assert first.endswith(" 0 too young, 1 failed")
    assert judge.startswith("judge: sensitivity 0.")
    assert "of answers were scored" in share
    assert caution.startswith("caution: few answers are scored")
    assert list(outcomes(None)) == []
