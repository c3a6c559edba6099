"""Drift: what moved is found and named, what did not stays quiet, and nobody's words leak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from router.bundle.embedder import load_embedder
from router.errors import InvalidInput
from router.policy.policy import static_policy
from router.types import Arm, Floats, Mask
from tests.kit import logs
from tests.kit.nights import CATALOG, START
from tests.kit.windows import Source, changed, fewer_right
from training.drift.search import Asked, Drift, Severity, compare, in_short
from training.drift.since import Active, since_trained
from training.drift.tests import Counted, Values, holm, mean_change, mix_changes
from training.drift.windows import Kind, Outcomes, Queries, Window
from training.evaluation.topics import learn
from training.log.dataset import Indices
from training.log.rows import SCHEMA

ARMS = (
    Arm(model="small", strategy="single"),
    Arm(model="large", strategy="single"),
    Arm(model="large", strategy="self_consistency", params={"samples": 3}),
)
PRICES = (Kind.PRICE, "all arms")
SUBJECTS = ("history", "algebra", "cooking", "football")


@cache
def source() -> Source:
    """Queries of four kinds whose figures follow their kind, with predictions that are right."""
    rng, count = np.random.default_rng(3), 4_000
    kind = rng.integers(0, 4, count)
    accuracy = 0.9 - 0.1 * kind[:, None] - np.array([0.2, 0.05, 0.0])
    usual = np.exp(0.1 * kind[:, None] + np.array([0.0, 0.5, 1.0]))
    return Source(
        texts=tuple(f"a query {place} on {SUBJECTS[each]}" for place, each in enumerate(kind)),
        vectors=3.0 * np.eye(4, 8)[kind] + rng.normal(size=(count, 8)),
        arms=ARMS,
        score=(rng.random((count, 3)) < accuracy).astype(float),
        accuracy=accuracy,
        cost_usd=np.exp(rng.normal(-8.0, 0.3, (count, 3))),
        latency_s=usual * np.exp(0.4 * rng.normal(size=(count, 3))),
        latency_p50_s=usual,
        latency_p95_s=usual * np.exp(0.4 * 1.645),
    )


def drawn(rng: np.random.Generator, before: int = 3_000, now: int = 1_500) -> tuple[Window, Window]:
    """Two windows with nothing between them."""
    known = source()
    first, second = (rng.integers(0, len(known.texts), size) for size in (before, now))
    return known.window(first, rng), known.window(second, rng)


def moved(found: Drift, kind: Kind) -> list[str]:
    return [each.where for each in found.moved if each.kind is kind]


def test_windows_of_the_same_traffic_rarely_alarm() -> None:
    rng = np.random.default_rng(0)
    found = [compare(*drawn(rng, 800, 400), ARMS, Asked(seed=seed)) for seed in range(30)]
    assert sum(bool(each.moved) for each in found) <= 3


def test_a_moved_query_mix_calls_for_retraining_and_names_the_cluster() -> None:
    rng, known = np.random.default_rng(1), source()
    before, _ = drawn(rng)
    football = np.flatnonzero(["football" in text for text in known.texts])
    places = np.concatenate((rng.integers(0, 4_000, 1_200), rng.choice(football, 300)))
    found = compare(before, known.window(places, rng), ARMS)
    assert found.retrain
    assert found.severity is Severity.MAJOR
    assert any("football" in each.where for each in found.clusters)


def test_queries_of_a_new_kind_are_told_by_their_own_words() -> None:
    rng = np.random.default_rng(2)
    before, now = drawn(rng)
    strange = np.zeros(8)
    strange[6] = 4.0
    places = np.flatnonzero(rng.random(1_500) < 0.15).tolist()
    texts, vectors = list(now.queries.texts), now.queries.vectors.copy()
    for place in places:
        texts[place], vectors[place] = f"question {place} about surgery", strange
    queries = Queries(texts=texts, vectors=vectors)
    found = compare(before, replace(now, queries=queries), ARMS)
    assert moved(found, Kind.SEPARATION)
    assert "surgery" in " ".join(found.reasons)


def test_an_arm_that_lost_accuracy_is_named() -> None:
    rng = np.random.default_rng(3)
    before, now = drawn(rng, 8_000, 8_000)
    found = compare(before, changed(now, score=fewer_right(1, 0.12, rng)), ARMS)
    assert "large:single" in moved(found, Kind.ACCURACY)
    assert "small:single" not in moved(found, Kind.ACCURACY)
    assert found.retrain


def test_a_price_that_rose_is_found_although_it_never_varies() -> None:
    before, now = drawn(np.random.default_rng(4))
    dearer = changed(now, cost_usd=lambda each: np.where(each.arm == 0, 1.5, 1.0) * each.cost_usd)
    found = compare(before, dearer, ARMS)
    own = next(each for each in found.moved if each.where == "small:single")
    assert (own.kind, own.severity) == (Kind.PRICE, Severity.MAJOR)
    assert own.change == pytest.approx(0.5, abs=0.01)


def test_a_slower_model_is_found_by_all_its_arms_together() -> None:
    before, now = drawn(np.random.default_rng(5), 4_000, 1_200)
    slower = changed(now, latency_s=lambda each: np.where(each.arm > 0, 1.3, 1.0) * each.latency_s)
    found = compare(before, slower, ARMS)
    assert "large" in moved(found, Kind.LATENCY)
    assert "small:single" not in moved(found, Kind.LATENCY)


def test_another_choice_of_arms_is_not_drift() -> None:
    rng, known = np.random.default_rng(6), source()
    places = rng.integers(0, 4_000, 6_000)
    before, now = known.window(places[:3_000], rng), known.window(places[3_000:], rng, arms=[1, 2])
    assert not compare(before, now, ARMS).moved


def test_a_calibration_that_flattened_is_found() -> None:
    before, now = drawn(np.random.default_rng(7), 6_000, 6_000)
    rng = np.random.default_rng(8)
    flat = changed(now, score=lambda each: (rng.random(len(each)) < 0.67).astype(float))
    assert moved(compare(before, flat, ARMS), Kind.CALIBRATION)


def test_what_is_significant_and_small_is_not_drift() -> None:
    before, now = drawn(np.random.default_rng(9), 3_000, 3_000)
    dearer = changed(now, cost_usd=lambda each: 1.02 * each.cost_usd)
    found = compare(before, dearer, ARMS)
    prices = [each for each in found.findings if each.kind is Kind.PRICE]
    assert all(each.p_adjusted < 1e-6 for each in prices)
    assert not found.moved


def test_hours_in_which_a_backend_is_slow_are_no_drift() -> None:
    rng, by_hour, alone = np.random.default_rng(10), 0, 0
    for _ in range(12):
        before, now = (_hourly(each, rng) for each in drawn(rng, 1_500, 1_500))
        by_hour += bool(moved(compare(before, now, ARMS), Kind.LATENCY))
        first, second = (changed(each, hour=_alone) for each in (before, now))
        alone += bool(moved(compare(first, second, ARMS), Kind.LATENCY))
    assert by_hour <= 2
    assert alone >= 4


def _alone(found: Outcomes) -> Indices:
    return np.arange(len(found))


def _hourly(window: Window, rng: np.random.Generator) -> Window:
    """The window with a load in each of 36 hours that slows all that falls into it."""
    hour, load = rng.integers(0, 36, len(window.outcomes)), np.exp(0.6 * rng.normal(size=36))
    return changed(window, hour=lambda _: hour, latency_s=lambda each: load[hour] * each.latency_s)


def test_a_few_subjects_who_ask_much_are_no_drift() -> None:
    rng, known, alarms = np.random.default_rng(11), source(), 0
    kinds = [np.flatnonzero([kind in text for text in known.texts]) for kind in SUBJECTS]
    for seed in range(12):
        windows = []
        for start in (0, 100):
            likes = rng.integers(0, 4, 80)
            subject = np.repeat(start + np.arange(80), 15)
            places = np.array([rng.choice(kinds[likes[each - start]]) for each in subject])
            windows.append(known.window(places, rng, subject=subject))
        found = compare(windows[0], windows[1], ARMS, Asked(seed=seed))
        alarms += bool(moved(found, Kind.MIX) or found.clusters)
    assert alarms <= 2


def test_too_little_is_told_as_such() -> None:
    found = compare(*drawn(np.random.default_rng(12), 90, 25), ARMS)
    assert not found.retrain
    assert {each.kind for each in found.untold} >= {Kind.MIX, Kind.ACCURACY, Kind.CALIBRATION}
    [all_arms] = [each for each in found.untold if (each.kind, each.where) == PRICES]
    assert "90 outcomes before and 25 now" in all_arms.why


def test_the_same_windows_give_the_same_verdict_and_plain_json() -> None:
    first, again = (
        compare(*drawn(np.random.default_rng(13), 600, 300), ARMS).to_mapping() for _ in range(2)
    )
    assert orjson.dumps(first) == orjson.dumps(again)


def test_later_looks_ask_for_more() -> None:
    before, now = drawn(np.random.default_rng(14))
    dearer = changed(now, cost_usd=lambda each: 1.5 * each.cost_usd)
    looks = [compare(before, dearer, ARMS, Asked(look=look)) for look in (1, 2, 20)]
    assert [each.level for each in looks] == sorted((each.level for each in looks), reverse=True)
    assert sum(6.0 / (np.pi * look) ** 2 for look in range(1, 10_000)) <= 1.0
    with pytest.raises(InvalidInput, match="look"):
        Asked(look=0)


def test_a_word_that_fewer_than_five_subjects_used_is_never_told() -> None:
    rng = np.random.default_rng(15)
    texts = [f"my password swordfish number {place}" for place in range(60)]
    texts += [f"the weather of tomorrow {place}" for place in range(60)]
    vectors = np.repeat(np.eye(2), 60, axis=0) + 0.01 * rng.normal(size=(120, 2))
    subject = np.concatenate((np.arange(60) % 4, 4 + np.arange(60)))
    names = " ".join(learn(vectors, texts, subject=subject, count=2).names)
    assert "swordfish" not in names
    assert "password" not in names
    assert "weather" in names


def test_thirty_right_answers_do_not_show_that_there_are_no_wrong_ones() -> None:
    value = np.concatenate((np.tile([1.0] * 19 + [0.0], 50), np.ones(30))) - 0.95
    change = mean_change(_values(value, np.arange(len(value)), np.arange(len(value)) >= 1_000))
    assert change is not None
    assert change.p_value > 0.1


def _values(value: Floats, unit: Indices, now: Mask) -> Values:
    arm = np.zeros(len(value), np.intp)
    ones = np.ones(len(value))
    return Values(value=value, weight=ones, arm=arm, unit=unit, now=now)


@given(arrays(np.float64, st.integers(1, 40), elements=st.floats(0.0, 1.0)))
def test_holm_adjusts_upwards_keeps_the_order_and_stays_a_probability(p_values: Floats) -> None:
    adjusted = holm(p_values)
    assert (adjusted >= p_values).all()
    assert (adjusted <= 1.0).all()
    assert (np.diff(adjusted[np.argsort(p_values, kind="stable")]) >= 0.0).all()


def test_holm_gives_the_published_example() -> None:
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.integers(0, 2**31), st.integers(2, 5))
def test_repeating_each_query_of_a_subject_is_no_new_evidence(seed: int, times: int) -> None:
    rng = np.random.default_rng(seed)
    of, now = rng.integers(0, 4, 400), np.arange(400) >= 200
    once = Counted(of=of, clusters=4, unit=np.arange(400), now=now)
    who = np.repeat(np.arange(400), times)
    repeated = Counted(of=of[who], clusters=4, unit=who, now=now[who])
    first, second = mix_changes(once), mix_changes(repeated)
    assert first[0] == pytest.approx(second[0], rel=0.02, abs=1e-6)
    assert first[1] == pytest.approx(second[1], rel=0.02, abs=1e-6)


def test_what_moved_since_the_active_policy_was_trained_is_found_in_its_log() -> None:
    told = [
        {**row, "occurred_at": START + timedelta(minutes=place)}
        for place, row in enumerate(logs.bandit(900, seed=2).rows)
    ]
    learnt = START + timedelta(minutes=599)
    active = Active(
        policy=static_policy(CATALOG),
        models=CATALOG.models,
        embedder=load_embedder(),
        watermark=learnt,
        promoted_at=learnt,
    )
    assert since_trained(_log(told[:600]), active, now=learnt) is None
    now = learnt + timedelta(hours=5)
    steady = since_trained(_log(told), active, now=now)
    assert steady is not None
    assert (steady.look, steady.retrain) == (6, False)
    for row in told[600:]:
        row["score"] = 0.0 if row["model"] == "large" else row["score"]
    worse = since_trained(_log(told), active, now=now)
    assert worse is not None
    assert worse.retrain
    assert any("large" in each for each in moved(worse, Kind.ACCURACY))
    read = Drift.from_mapping(orjson.loads(orjson.dumps(worse.to_mapping())))
    assert read.reasons == worse.reasons
    assert in_short(worse.to_mapping()) == {
        "look": 6,
        "severity": "major",
        "retrain": True,
        "reasons": list(worse.reasons),
        "clusters": [each.where for each in worse.clusters],
    }


def _log(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), SCHEMA)
