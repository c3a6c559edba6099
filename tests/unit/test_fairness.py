"""The fairness audit: slices add up, a ruined one is found, chance blocks nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import InvalidInput
from training.evaluation.slices import (
    ACCENTED,
    KANA,
    LATIN,
    NO_LETTERS,
    OTHER,
    Facet,
    facet,
    label_facets,
    script,
    script_facet,
)
from training.fairness.audit import Asked, audit
from training.fairness.figures import Against, Judged, Measure
from training.fairness.verdict import Audit, Shortfall, Told
from training.log.dataset import Indices

TENANTS = ("acme", "globex", "initech", "umbrella")


def judged(rng: np.random.Generator, n: int, accuracy: float = 0.8) -> Judged:
    return Judged(
        accuracy=(rng.random(n) < accuracy).astype(float),
        spend_usd=rng.exponential(0.001, n),
        thinking=rng.choice([1.0, 2.0, 8.0], n),
    )


def taken(whole: Judged, order: Indices) -> Judged:
    return Judged(
        accuracy=whole.accuracy[order],
        spend_usd=whole.spend_usd[order],
        thinking=whole.thinking[order],
    )


def tenants(rng: np.random.Generator, n: int) -> Facet:
    return facet("tenant", [TENANTS[place] for place in rng.integers(0, 4, n)])


def regions(rng: np.random.Generator, n: int) -> Facet:
    return facet("label region", [f"r{place}" for place in rng.integers(0, 6, n)])


def shortfall(found: Audit, name: str, measure: Measure, against: Against) -> Shortfall:
    [own] = [each for each in found.slices if each.name == name]
    [one] = [each for each in own.shortfalls if (each.measure, each.against) == (measure, against)]
    return one


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.integers(60, 400))
def test_the_slices_of_a_facet_add_up_to_the_whole(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    found = audit(judged(rng, n), [tenants(rng, n), regions(rng, n)], asked=Asked(least_units=1))
    for of in ("tenant", "label region"):
        own = [each for each in found.slices if each.facet == of]
        assert sum(each.n for each in own) == n
        assert sum(each.share for each in own) == pytest.approx(1.0)
        spent = sum(each.share * each.spend_usd.estimate for each in own if each.spend_usd)
        assert spent == pytest.approx(found.overall[Measure.SPEND])
        short = [each.shortfalls[0].interval.estimate * each.share for each in own]
        assert sum(short) == pytest.approx(0.0, abs=1e-12)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**31))
def test_the_order_of_interactions_changes_nothing(seed: int) -> None:
    rng, n = np.random.default_rng(seed), 500
    candidate, incumbent, parted = judged(rng, n), judged(rng, n), tenants(rng, n)
    subject, order = rng.integers(0, 300, n), rng.permutation(n)
    first = audit(candidate, [parted], incumbent=incumbent, subject=subject)
    again = audit(
        taken(candidate, order),
        [replace(parted, of=parted.of[order])],
        incumbent=taken(incumbent, order),
        subject=subject[order],
    )
    for one, two in zip(first.slices, again.slices, strict=True):
        assert one.n == two.n
        for each, other in zip(one.shortfalls, two.shortfalls, strict=True):
            assert each.interval.low == pytest.approx(other.interval.low, rel=1e-3, abs=1e-6)


def test_a_ruined_slice_blocks_and_is_named() -> None:
    rng, n = np.random.default_rng(1), 4_000
    incumbent, parted = judged(rng, n), tenants(rng, n)
    ruined = parted.of == parted.names.index("initech")
    lost = ruined & (rng.random(n) < 0.2)
    better = np.where(~ruined & (rng.random(n) < 0.3), 1.0, incumbent.accuracy)
    candidate = replace(incumbent, accuracy=np.where(lost, 0.0, better))
    found = audit(candidate, [regions(rng, n), parted], incumbent=incumbent)
    assert candidate.accuracy.mean() > incumbent.accuracy.mean()
    assert found.blocks
    assert [each.name for each, _ in found.short] == ["initech"]
    assert "tenant initech" in found.reasons[0]


def test_an_override_lets_pass_and_keeps_who_and_why() -> None:
    rng, n = np.random.default_rng(2), 2_000
    incumbent, parted = judged(rng, n), tenants(rng, n)
    candidate = replace(incumbent, accuracy=np.where(parted.of == 0, 0.0, incumbent.accuracy))
    found = audit(candidate, [parted], incumbent=incumbent)
    passed = found.overridden("ops@acme", "the tenant leaves tomorrow")
    assert found.blocks
    assert not passed.blocks
    assert passed.reasons == found.reasons
    told = orjson.loads(orjson.dumps(passed.to_mapping()))
    assert told["override"]["who"] == "ops@acme"
    with pytest.raises(InvalidInput, match="who"):
        found.overridden("", "because")


def test_equal_policies_are_rarely_blocked() -> None:
    rng, n, blocked = np.random.default_rng(3), 1_000, 0
    for seed in range(40):
        one, two = judged(rng, n), judged(rng, n)
        swap = rng.random(n) < 0.5
        first = replace(one, accuracy=np.where(swap, one.accuracy, two.accuracy))
        second = replace(two, accuracy=np.where(swap, two.accuracy, one.accuracy))
        parted = [tenants(rng, n), regions(rng, n)]
        blocked += audit(first, parted, incumbent=second, asked=Asked(seed=seed)).blocks
    assert blocked <= 5


def test_intervals_hold_for_all_slices_at_once() -> None:
    rng, n, missed = np.random.default_rng(4), 1_200, 0
    for seed in range(50):
        found = audit(judged(rng, n), [tenants(rng, n), regions(rng, n)], asked=Asked(seed=seed))
        levels = [each.accuracy for each in found.slices if each.accuracy]
        missed += any(not each.low <= 0.8 <= each.high for each in levels)
    assert missed <= 8


def test_a_slice_too_small_to_tell_is_named_and_blocks_nothing() -> None:
    rng, n = np.random.default_rng(5), 1_000
    incumbent = judged(rng, n)
    parted = facet("tenant", ["tiny" if place < 20 else "acme" for place in range(n)])
    candidate = replace(incumbent, accuracy=np.where(np.arange(n) < 20, 0.0, incumbent.accuracy))
    found = audit(candidate, [parted], incumbent=incumbent)
    assert not found.blocks
    assert [each.name for each in found.untold] == ["tiny"]
    assert found.untold[0].told is Told.TOO_FEW
    assert found.untold[0].accuracy is None


def test_one_subject_who_asks_a_thousand_times_is_one_subject() -> None:
    rng, n = np.random.default_rng(6), 2_000
    incumbent, parted = judged(rng, n), tenants(rng, n)
    candidate = replace(incumbent, accuracy=np.where(parted.of == 0, 0.0, incumbent.accuracy))
    subject = np.where(parted.of == 0, 0, np.arange(1, n + 1))
    assert not audit(candidate, [parted], incumbent=incumbent, subject=subject).blocks


def test_thinking_that_one_slice_is_denied_blocks_where_that_is_asked_for() -> None:
    rng, n = np.random.default_rng(7), 3_000
    whole, parted = judged(rng, n), tenants(rng, n)
    denied = replace(whole, thinking=np.where(parted.of == 1, 1.0, whole.thinking))
    group = Measure.THINKING, Against.OVERALL
    assert not audit(denied, [parted]).blocks
    found = audit(denied, [parted], asked=Asked(bounds={group: 0.25}))
    assert found.blocks
    assert found.short[0][0].name == parted.names[1]
    own = shortfall(found, parted.names[1], *group)
    assert own.interval.estimate == pytest.approx(1.0 - 1.0 / denied.thinking.mean())


def test_ratios_to_the_incumbent_have_the_error_of_a_ratio() -> None:
    rng, n, seen = np.random.default_rng(8), 800, []
    group = Measure.SPEND, Against.INCUMBENT
    errors = []
    for seed in range(120):
        before = judged(rng, n)
        after = replace(before, spend_usd=0.8 * before.spend_usd * rng.gamma(4.0, 0.25, n))
        found = audit(after, [facet("all", ["x"] * n)], incumbent=before, asked=Asked(seed=seed))
        interval = shortfall(found, "x", *group).interval
        seen.append(interval.estimate)
        errors.append((interval.high - interval.low) / 2.0 / 1.96)
    assert np.mean(seen) == pytest.approx(0.2, abs=0.01)
    assert np.mean(errors) == pytest.approx(np.std(seen), rel=0.25)


def test_parts_that_do_not_fit_together_are_refused() -> None:
    rng = np.random.default_rng(9)
    with pytest.raises(InvalidInput, match="length"):
        audit(judged(rng, 10), [tenants(rng, 11)])
    with pytest.raises(InvalidInput, match="accuracy"):
        audit(replace(judged(rng, 4), accuracy=np.full(4, np.nan)), [tenants(rng, 4)])
    with pytest.raises(InvalidInput, match="nothing"):
        audit(judged(rng, 4), [])
    with pytest.raises(InvalidInput, match="bound"):
        Asked(bounds={(Measure.ACCURACY, Against.INCUMBENT): -0.1})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("What is 7 x 8?", LATIN),
        ("7 * 8 = ?", NO_LETTERS),
        ("Warum ist der Himmel blau und über uns größer?", ACCENTED),
        ("Сколько будет семь умножить на восемь?", "Cyrillic"),
        ("一个篮子里有二十四个苹果", "Han"),
        ("りんごは全部で何個ありますか", KANA),
        ("사과는 모두 몇 개입니까", "Hangul"),
        ("كم عدد التفاح", "Arabic"),
        ("…", NO_LETTERS),
    ],
)
def test_a_texts_script_stands_for_its_language(text: str, found: str) -> None:
    assert script(text) == found
    assert script_facet([text]).names == (found,)


def test_labels_part_interactions_and_rare_values_are_one_slice() -> None:
    team, only = label_facets([{"team": "a"}, {}, {"team": "a", "x": "1"}])
    assert (team.name, team.names, team.of.tolist()) == ("label team", ("(none)", "a"), [1, 0, 1])
    assert only.names == ("(none)", "1")
    many = facet("tenant", [f"t{place % 30:02d}" for place in range(95)], most=5)
    assert len(many.names) == 5
    assert many.names[-1] == OTHER
    assert np.bincount(many.of).sum() == 95
