"""Canaries: who is on which side, what the two sides tell, and what is done about it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import ConfigurationError, InvalidInput
from router.policy.canary import chance_of, place_of, unit_of
from router.settings import Settings
from router.types import PolicyRecord, PolicyState
from tests.promises.canary import World, live
from training.canary.bets import Bets, Margins, thinned, thinning
from training.canary.comparison import Comparison, Seen
from training.canary.judge import DEFAULT, Action, Plan, Step, judge, steps_of
from training.canary.succession import outwaited

TENANT = UUID(int=7)
NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)

shares = st.floats(0.0, 1.0)


@given(st.integers(1, 1 << 40), st.text(min_size=1), shares, shares)
def test_a_unit_stays_on_its_side_and_a_growing_share_takes_nobody_back(
    version: int, unit: str, one: float, other: float
) -> None:
    place = place_of(version, TENANT, unit)
    assert place == place_of(version, TENANT, unit)
    assert 0.0 <= place < 1.0
    low, high = sorted((one, other))
    assert place >= low or place < high


@given(st.floats(0.0, 1.0, exclude_max=True), shares, st.lists(shares, max_size=4))
def test_a_side_that_earlier_shares_had_settled_has_no_chance_left(
    place: float, share: float, earlier: list[float]
) -> None:
    chance = chance_of(place, share, earlier)
    assert 0.0 <= chance <= 1.0
    if any(place < each <= share for each in earlier):
        assert chance == 1.0
    if any(share <= each <= place for each in earlier):
        assert chance == 0.0


def test_units_fall_on_the_canarys_side_as_often_as_the_share_says() -> None:
    units = [str(number) for number in range(20_000)]
    for version, share in ((3, 0.01), (3, 0.25), (4, 0.25)):
        found = np.mean([place_of(version, TENANT, unit) < share for unit in units])
        assert found == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / len(units)))
    ours, theirs = (
        np.array([place_of(version, TENANT, unit) for unit in units]) for version in (3, 4)
    )
    assert abs(np.corrcoef(ours, theirs)[0, 1]) < 0.03


@pytest.mark.parametrize(
    ("conversation", "subject", "unit"),
    [("talk", "user", "talk"), ("", "user", "user"), (None, None, "")],
)
def test_a_conversation_is_the_unit_before_its_user_is(
    conversation: str | None, subject: str | None, unit: str
) -> None:
    assert unit_of(conversation, subject) == unit


@given(st.floats(0.0001, 0.9999))
def test_ten_active_decisions_for_each_of_the_canarys_are_enough(chance: float) -> None:
    seen = thinned(chance)
    assert seen == pytest.approx(max(chance, 1 / 11))
    assert 0.0 < thinning(chance) <= 1.0


@given(
    st.lists(
        st.tuples(st.booleans(), st.floats(0.01, 0.9), *[st.floats(0.0, 1.0)] * 4), max_size=60
    )
)
def test_no_bet_can_lose_more_than_there_is(rows: list[tuple[float, ...]]) -> None:
    bets = Bets.of((5.0, 1.0))
    for canary, chance, *bad in rows:
        bets = bets.observe(np.array(bad), np.array(canary), np.array(chance), Margins())
    assert (bets.capital.total > 0.0).all()
    assert (bets.capital.staked >= 0.0).all()


def seen(count: int, *, canary: float, active: float, seed: int = 0, **known: float) -> list[Seen]:
    """Decisions at a chance of a quarter; either side is right with its own probability."""
    rng = np.random.default_rng(seed)
    sides = rng.random(count) < 0.25
    right = rng.random(count) < np.where(sides, canary, active)
    return [
        Seen(canary=bool(side), chance=0.25, score=float(score), failed=False, **known)
        for side, score in zip(sides, right, strict=True)
    ]


def judged(comparison: Comparison, plan: Plan = DEFAULT, share: float = 0.25) -> Action:
    return judge(comparison, plan, share=share, decisions=5_000, since=NOW - DAY, now=NOW).action


def test_a_canary_that_is_worse_is_rolled_back_with_its_figures() -> None:
    found = Comparison.of(DEFAULT.slacks).observe(
        seen(3_000, canary=0.6, active=0.8), DEFAULT.margins
    )
    verdict = judge(found, DEFAULT, share=0.25, decisions=9, since=NOW, now=NOW)
    assert verdict.action is Action.ROLLBACK
    accuracy = verdict.figures[0].apart
    assert accuracy is not None
    assert accuracy.low < -0.2 < accuracy.high < 0.0
    assert verdict.why.startswith("worse: accuracy -0.")


def test_equal_policies_advance_once_that_is_sure_and_not_before() -> None:
    found = Comparison.of(DEFAULT.slacks).observe(
        seen(200, canary=0.9, active=0.9), DEFAULT.margins
    )
    assert judged(found, share=0.25) is Action.WAIT
    more = found.observe(seen(30_000, canary=0.9, active=0.9, seed=1), DEFAULT.margins)
    assert judged(more, share=0.25) is Action.ADVANCE
    early = judge(more, DEFAULT, share=0.25, decisions=999, since=NOW - DAY, now=NOW)
    assert (early.action, early.why) == (Action.WAIT, "999 of 1,000 decisions at this share")
    soon = judge(more, DEFAULT, share=0.25, decisions=5_000, since=NOW, now=NOW)
    assert soon.action is Action.WAIT


def test_silence_is_no_consent() -> None:
    nothing = Comparison.of(DEFAULT.slacks)
    silent = judge(nothing, DEFAULT, share=0.01, decisions=10**6, since=NOW - DAY, now=NOW)
    assert silent.action is Action.WAIT
    assert "report outcomes" in silent.why
    unscored = [replace(each, score=None) for each in seen(20_000, canary=1, active=1)]
    known = nothing.observe(unscored, DEFAULT.margins)
    verdict = judge(known, DEFAULT, share=0.01, decisions=10**6, since=NOW - DAY, now=NOW)
    assert (verdict.action, "accuracy unknown" in verdict.why) == (Action.WAIT, True)


@pytest.mark.parametrize(
    ("metric", "worse"),
    [("cost_usd", {"cost_usd": 2e-3}), ("slow", {"latency_s": 9.0}), ("failed", {"failed": True})],
)
def test_each_metric_alone_can_end_a_canary(metric: str, worse: dict[str, Any]) -> None:
    usual = seen(4_000, canary=0.9, active=0.9, cost_usd=1e-3, latency_s=1.0, bound_s=5.0)
    rows = [
        replace(each, **worse) if each.canary and number % 4 == 0 else each
        for number, each in enumerate(usual)
    ]
    found = Comparison.of(DEFAULT.slacks).observe(rows, DEFAULT.margins)
    verdict = judge(found, DEFAULT, share=0.25, decisions=1_000, since=NOW - DAY, now=NOW)
    assert verdict.action is Action.ROLLBACK
    assert verdict.why.startswith(f"worse: {metric} +")


@pytest.mark.parametrize(("bound_s", "ends"), [(None, False), (60.0, False), (5.0, True)])
def test_an_answer_is_slow_by_the_slos_bound_alone(bound_s: float | None, *, ends: bool) -> None:
    rows = [
        replace(each, latency_s=9.0 if each.canary else 1.0, bound_s=bound_s)
        for each in seen(4_000, canary=0.9, active=0.9, cost_usd=1e-3)
    ]
    found = Comparison.of(DEFAULT.slacks).observe(rows, DEFAULT.margins)
    assert (judged(found) is Action.ROLLBACK) is ends
    assert (found.figures(2)[2].apart is None) is (bound_s is None)


def record(share: float | None, *, promote: bool, days: float | None) -> PolicyRecord:
    """A canary that the watcher has known at its share for so many days; None: not at all."""
    since = {} if days is None else {"at_share_since": (NOW - days * DAY).isoformat()}
    return PolicyRecord(
        version=3,
        state=PolicyState.CANARY,
        created_at=NOW,
        promoted_at=None,
        bundle_sha256="",
        bundle_bytes=0,
        summary={"gate": {"promote": promote}},
        share=share,
        canary=since,
    )


@pytest.mark.parametrize(
    ("canary", "gives_way"),
    [
        (record(0.05, promote=True, days=3.0), True),
        (record(0.05, promote=True, days=2.9), False),
        (record(0.05, promote=True, days=None), False),
        (record(0.05, promote=False, days=30.0), False),
        (record(0.0, promote=True, days=30.0), False),
    ],
)
def test_only_a_canary_that_passed_the_gate_and_cannot_tell_gives_way(
    canary: PolicyRecord, *, gives_way: bool
) -> None:
    assert (outwaited(canary, NOW) is not None) is gives_way


def test_a_mix_that_drifts_while_the_share_grows_moves_no_verdict() -> None:
    comparison, rng = Comparison.of(DEFAULT.slacks), np.random.default_rng(5)
    for chance, right in ((0.1, 0.9), (0.5, 0.5)):
        rows = [
            Seen(canary=bool(side), chance=chance, score=float(score), failed=False)
            for side, score in zip(
                rng.random(4_000) < chance, rng.random(4_000) < right, strict=True
            )
        ]
        comparison = comparison.observe(rows, DEFAULT.margins).next_step()
    assert float(comparison.bets.worse) < 20.0
    accuracy = comparison.figures(0)[0].apart
    assert accuracy is not None
    assert accuracy.low < 0.0 < accuracy.high
    assert abs(accuracy.canary - accuracy.active) < 0.05


def test_a_comparison_is_read_back_bit_for_bit_and_goes_on_the_same() -> None:
    rows = seen(300, canary=0.7, active=0.8, cost_usd=1e-3, latency_s=2.0)
    first = Comparison.of(DEFAULT.slacks).observe(rows[:150], DEFAULT.margins)
    again = Comparison.from_mapping(orjson.loads(orjson.dumps(first.to_mapping())))
    whole = first.observe(rows[150:], DEFAULT.margins).to_mapping()
    assert again.observe(rows[150:], DEFAULT.margins).to_mapping() == whole
    with pytest.raises(InvalidInput):
        Comparison.from_mapping({"bets": {}})


def test_the_plan_finds_the_step_of_any_share() -> None:
    assert [DEFAULT.place(share) for share in (0.001, 0.01, 0.04, 0.05, 0.25, 0.9)] == [
        *(0, 0, 0, 1, 2, 2)
    ]


def test_the_settings_steps_are_those_of_the_plan() -> None:
    assert steps_of(Settings.model_fields["canary_steps"].default) == DEFAULT.steps
    for wrong in ("", "1%", "5%:1:1m 1%:1:1m", "100%:1:1m", "0%:1:1m", "1%:1:1y"):
        with pytest.raises(ConfigurationError, match="LEADLINE_CANARY_STEPS"):
            steps_of(wrong)


def test_drops_end_canaries_and_nothing_else_does() -> None:
    plan = Plan(steps=(Step(share=0.5, least_decisions=100, least_time=timedelta(0)),))
    dropped = live(World(drop=0.1), 40, plan=plan, most=3_000)
    assert dropped.median < 1_000
    assert dropped.share > 0.9
    assert live(World(), 40, plan=plan, most=1_000, seed=1).share <= 0.1
