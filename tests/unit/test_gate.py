"""The gate: what is better passes, whatever fails by itself blocks, and the verdict says why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.commands import verdicts
from training.evaluation.logged import one_hot
from training.evaluation.slices import facet
from training.fairness.figures import Against, Measure
from training.fairness.verdict import Audit, Interval, Override, Shortfall, Slice, Told
from training.gate.contest import Contest, Contestant, Held
from training.gate.facts import Bundle, Learnt, Promised, Timing
from training.gate.judge import Checks, judge
from training.gate.verdict import Condition, Verdict

NOW = datetime(2026, 1, 2, tzinfo=UTC)
TRUE = np.array([[0.9, 0.3, 0.5], [0.3, 0.9, 0.5], [0.3, 0.9, 0.5]])
"""The accuracy of three arms for queries of three kinds."""

SOUND = Checks(
    learnt=Learnt(
        watermark=NOW, incumbent_watermark=NOW - timedelta(days=1), brier=0.2, brier_rows=900
    ),
    bundle=Bundle(verified=True),
    timing=Timing(candidate_s=0.0005, incumbent_s=0.0004),
    slos=(Promised(tenant="acme", slo="default", before=True, after=True),),
)


@cache
def better(n: int = 3_000, seed: int = 1) -> Contest:
    """A candidate that knows the best arm of each kind, where the incumbent errs on one."""
    rng = np.random.default_rng(seed)
    kind, arm = rng.integers(0, 3, n), rng.integers(0, 3, n)
    score = (rng.random(n) < TRUE[kind, arm]).astype(np.float64)
    held = Held(
        arm=arm,
        propensity=np.full(n, 1.0 / 3.0),
        score=score,
        cost_usd=np.full(n, 0.1),
        late=(rng.random(n) < 0.05).astype(np.float64),
        late_allowed=np.full(n, 0.1),
        value_usd=np.ones(n),
        expected_score=TRUE[kind] + rng.normal(0.0, 0.1, (n, 3)),
        expected_cost_usd=np.full((n, 3), 0.1),
        expected_late=np.full((n, 3), 0.05),
        facets=(facet("topic", [f"t{each}" for each in kind]),),
    )
    return Contest(
        held=held,
        candidate=Contestant(target=one_hot(np.array([0, 1, 1])[kind], 3), accuracy=TRUE[kind]),
        incumbent=Contestant(target=one_hot(np.array([0, 1, 2])[kind], 3), accuracy=TRUE[kind]),
        constant=np.full(n, 1),
    )


def failing(contest: Contest, checks: Checks = SOUND) -> list[str]:
    return [each.name for each in judge(contest, checks).failed]


def test_a_better_candidate_is_promoted_and_the_verdict_says_by_how_much() -> None:
    verdict = judge(better(), SOUND)
    assert verdict.promote
    assert not verdict.failed
    first = verdict.conditions[0]
    assert first.measured["difference_points"] == pytest.approx(100 * 0.4 / 3, abs=5.0)
    assert all(each.why == "" for each in verdict.conditions)


def test_a_candidate_like_the_incumbent_is_not() -> None:
    same = better()
    assert same.incumbent is not None
    [failed] = failing(replace(same, candidate=same.incumbent))
    assert failed == "utility above the incumbent's"


def test_one_that_beats_the_incumbent_but_not_the_best_constant_is_not() -> None:
    contest = better()
    kind = contest.held.facets[0].of
    poor = replace(contest.candidate, target=one_hot(np.array([0, 0, 2])[kind], 3))
    constant = replace(contest.candidate, target=contest.constant_target)
    failed = failing(replace(contest, candidate=constant, incumbent=poor))
    assert "utility above the best constant's" in failed
    assert "utility above the incumbent's" not in failed


def test_the_first_policy_ever_stands_against_the_best_constant_alone() -> None:
    first = replace(better(), incumbent=None)
    verdict = judge(
        first, replace(SOUND, learnt=Learnt(watermark=NOW), timing=Timing(candidate_s=0.001))
    )
    assert verdict.promote
    assert "incumbent" not in verdict.conditions[0].name


def leaked(contest: Contest) -> Contest:
    """One whose candidate has half learnt the outcome of every logged arm."""
    held, rows = contest.held, np.arange(len(contest.held))
    accuracy = contest.candidate.accuracy.copy()
    accuracy[rows, held.arm] += 0.5 * (held.score - accuracy[rows, held.arm])
    return replace(contest, candidate=replace(contest.candidate, accuracy=accuracy))


def distorted(contest: Contest) -> Contest:
    accuracy = np.clip(contest.candidate.accuracy + 0.2, 0.0, 1.0)
    return replace(contest, candidate=replace(contest.candidate, accuracy=accuracy))


def ruined(contest: Contest) -> Contest:
    """One whose candidate picks the worst arm for the first kind and is still better overall."""
    held = contest.held
    target = contest.candidate.target.copy()
    target[held.facets[0].of == 0] = [0.0, 1.0, 0.0]
    worse = replace(contest.candidate, target=target)
    constant = np.full(len(held), 2)
    return replace(contest, candidate=worse, constant=constant)


def test_gains_elsewhere_which_no_model_expects_do_not_hide_a_slice_that_is_worse() -> None:
    rng, usual = np.random.default_rng(7), better()
    kind, arm = usual.held.facets[0].of, usual.held.arm
    worse = np.where(kind == 0, 0.3, 0.9)
    reached = np.where(arm == 0, 0.5, np.where(arm == 1, worse, 0.1))
    held = replace(
        usual.held,
        score=(rng.random(len(arm)) < reached).astype(np.float64),
        expected_score=np.full((len(arm), 3), 0.5),
    )
    ahead = Contestant(target=one_hot(np.ones_like(arm), 3), accuracy=np.column_stack([worse] * 3))
    before = Contestant(target=one_hot(np.zeros_like(arm), 3), accuracy=np.full((len(arm), 3), 0.5))
    contest = Contest(
        held=held, candidate=ahead, incumbent=before, constant=np.full(len(arm), 2, np.intp)
    )
    [slices] = [each for each in judge(contest, SOUND).conditions if each.name == "slices"]
    assert not slices.held
    assert "topic t0" in slices.why


def late(contest: Contest) -> Contest:
    held, rng = contest.held, np.random.default_rng(5)
    slow = (rng.random(len(held)) < np.where(held.arm == 1, 0.5, 0.02)).astype(np.float64)
    return replace(contest, held=replace(held, late=slow))


def untried(contest: Contest) -> Contest:
    """One whose log has none of the arm that the candidate picks and the incumbent does not."""
    held = contest.held
    kept = np.flatnonzero((held.arm != 1) | (held.facets[0].of != 2))
    return contest.take(kept)


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (leaked, "nothing leaked"),
        (distorted, "calibration"),
        (ruined, "slices"),
        (late, "latency"),
        (untried, "utility above the incumbent's"),
    ],
)
def test_what_interactions_show_blocks(spoil: Callable[[Contest], Contest], name: str) -> None:
    verdict = judge(spoil(better()), SOUND)
    assert not verdict.promote
    [failed] = [each for each in verdict.failed if each.name == name]
    assert failed.why


def test_where_the_log_cannot_tell_the_reason_says_so() -> None:
    [first, *_] = judge(untried(better()), SOUND).failed
    assert first.why.startswith("cannot tell")


SHORT = Slice(
    facet="label plan",
    name="free",
    n=100,
    units=100.0,
    share=0.1,
    told=Told.TOLD,
    accuracy=None,
    spend_usd=None,
    thinking=None,
    shortfalls=(
        Shortfall(
            measure=Measure.ACCURACY,
            against=Against.INCUMBENT,
            interval=Interval(estimate=0.1, low=0.05, high=0.15),
            bound=0.02,
        ),
    ),
)
UNFAIR = Audit(slices=(SHORT,), overall={}, level=0.05)
LEARNT = SOUND.learnt
SPOILED = {
    "not stale": replace(SOUND, learnt=replace(LEARNT, watermark=NOW - timedelta(days=9))),
    "held out": replace(SOUND, learnt=replace(LEARNT, seen=1)),
    "nothing leaked": replace(SOUND, learnt=replace(LEARNT, brier=0.9)),
    "slos certifiable": replace(
        SOUND,
        slos=(Promised(tenant="acme", slo="gold", before=True, after=False, why="too few"),),
    ),
    "bundle": replace(SOUND, bundle=Bundle(verified=False, why="its sha256 differs")),
    "decides": replace(SOUND, timing=Timing(candidate_s=0.01, incumbent_s=0.001)),
    "fairness": replace(SOUND, audit=UNFAIR),
}


@pytest.mark.parametrize("name", SPOILED)
def test_what_is_found_out_beside_them_blocks_by_itself(name: str) -> None:
    [failed] = judge(better(), SPOILED[name]).failed
    assert (failed.name, bool(failed.why)) == (name, True)


def test_queries_that_only_the_incumbent_has_an_arm_for_block() -> None:
    assert failing(better(), replace(SOUND, unanswered=3)) == ["decides"]


def test_a_person_may_override_the_fairness_audit_and_is_named() -> None:
    override = Override(who="ada", why="the plan ends this week")
    verdict = judge(better(), replace(SOUND, audit=replace(UNFAIR, override=override)))
    assert verdict.promote
    assert "ada: the plan ends this week" in str(verdict.to_mapping())


def test_an_slo_that_cannot_be_certified_now_does_not_block() -> None:
    slos = (Promised(tenant="acme", slo="gold", before=False, after=False, why="too few"),)
    assert judge(better(), replace(SOUND, slos=slos)).promote


@settings(max_examples=25, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_one_condition_that_does_not_hold_is_enough(held: list[bool]) -> None:
    conditions = tuple(
        Condition(name=f"c{place}", held=each, measured={}, must="")
        for place, each in enumerate(held)
    )
    assert Verdict(conditions=conditions).promote is all(held)
    assert not Verdict(conditions=()).promote


@settings(max_examples=10, deadline=None)
@given(
    st.lists(st.sampled_from(sorted(SPOILED)), min_size=1, unique=True),
    st.sampled_from([None, leaked, distorted]),
)
def test_whatever_else_holds_a_failure_is_not_outweighed(
    names: list[str], spoil: Callable[[Contest], Contest] | None
) -> None:
    checks = SOUND
    for name in names:
        spoiled = SPOILED[name]
        changed = {
            field: getattr(spoiled, field)
            for field in ("bundle", "timing", "slos", "audit")
            if getattr(spoiled, field) != getattr(SOUND, field)
        }
        checks = replace(checks, **changed)
        if spoiled.learnt != LEARNT:
            checks = replace(checks, learnt=spoiled.learnt)
    contest = better() if spoil is None else spoil(better())
    assert not judge(contest, checks).promote


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**31))
def test_the_order_of_interactions_does_not_matter(seed: int) -> None:
    contest = better(600)
    order = np.random.default_rng(seed).permutation(600)
    one, other = (judge(each, SOUND).conditions for each in (contest, contest.take(order)))
    for mine, theirs in zip(one, other, strict=True):
        assert mine.held == theirs.held
        for name, value in mine.measured.items():
            if isinstance(value, float):
                assert theirs.measured[name] == pytest.approx(value, rel=1e-6, abs=1e-9)


def test_the_same_contest_gives_the_same_verdict() -> None:
    assert judge(better(600), SOUND) == judge(better(600), SOUND)


@pytest.mark.parametrize("spoil", [None, leaked, untried])
def test_a_verdict_survives_json(spoil: Callable[[Contest], Contest] | None) -> None:
    contest = better(600) if spoil is None else spoil(better(600))
    verdict = judge(contest, SOUND)
    read = orjson.loads(orjson.dumps(verdict.to_mapping()))
    assert read == verdict.to_mapping()
    again = Verdict.from_mapping(read)
    assert again.promote == verdict.promote
    assert again.to_mapping() == read


def test_people_are_told_which_condition_failed() -> None:
    told = judge(better(600), SPOILED["bundle"]).to_mapping()
    assert verdicts.headline(told) == "the gate does not let it pass: bundle"
    rows = {row[0]: row for row in verdicts.rows(told)}
    assert rows["bundle"][1:] == (
        "NO",
        "verified false",
        "its signature, files and golden rows are right",
        "its sha256 differs",
    )
    assert verdicts.headline(judge(better(), SOUND).to_mapping()).endswith("every condition holds")
