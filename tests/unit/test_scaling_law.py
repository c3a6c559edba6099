"""The scaling-law report: known laws come back, and what cannot be told is not told."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree as ET

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import InvalidInput
from router.policy.scaling import EXPONENT_HIGH, EXPONENT_LOW
from router.types import Arm
from tests.kit import logs
from tests.kit.scaling import published, table, voting
from tests.kit.shared_data import shared
from training.log.dataset import Dataset
from training.log.rows import SCHEMA
from training.log.sources import read
from training.scaling.drawn import drawn
from training.scaling.fit import growth, power_law, saturating_law
from training.scaling.groups import Table, ladders, resampled
from training.scaling.law import scaling_laws
from training.scaling.logged import laws_of
from training.scaling.values import FITTED, Law, ScalingLaws

SPENT = np.array([1.0, 2.0, 4.0, 8.0, 16.0])


def law(found: ScalingLaws, strategy: str) -> Law:
    [one] = [each for each in found.laws if each.strategy == strategy]
    return one


@given(st.floats(0.0, 1.5), st.floats(0.05, 0.9))
def test_a_power_law_comes_back(exponent: float, scale: float) -> None:
    fitted = power_law(SPENT, scale * SPENT[None, :] ** -exponent)
    assert fitted.exponent[0] == pytest.approx(exponent, abs=0.003)
    assert fitted.at(SPENT)[0] == pytest.approx(scale * SPENT**-exponent, abs=0.005)


@given(st.floats(0.05, 0.4), st.floats(0.1, 0.5), st.floats(0.3, 1.5))
def test_a_saturating_law_comes_back(left: float, scale: float, exponent: float) -> None:
    fitted = saturating_law(SPENT, left + scale * SPENT[None, :] ** -exponent)
    assert fitted.left[0] == pytest.approx(left, abs=0.03)
    assert fitted.at(SPENT)[0] == pytest.approx(left + scale * SPENT**-exponent, abs=0.005)


@given(st.floats(0.0, 0.5))
def test_growth_is_the_exponent_of_accuracy_itself(exponent: float) -> None:
    assert growth(SPENT, 0.2 * SPENT[None, :] ** exponent)[0] == pytest.approx(exponent, abs=0.003)


def test_intervals_hold_the_true_exponent() -> None:
    rng, arms, held = np.random.default_rng(1), voting((1, 2, 4, 8, 16)), 0
    right = np.tile(1.0 - 0.5 * SPENT**-0.25, (1_000, 1))
    for _ in range(30):
        [found] = scaling_laws(table(arms, right, rng), rng=rng, resamples=150).laws
        held += found.exponent is not None and found.exponent.low <= 0.25 <= found.exponent.high
    assert held >= 25


def test_published_exponents_come_back_from_simulated_outcomes() -> None:
    rng = np.random.default_rng(2)
    found = scaling_laws(published(6_000, rng), rng=rng)
    for strategy, most in (("chain_of_thought", 8.0), ("self_consistency", 100.0)):
        own = law(found, strategy)
        assert own.told == FITTED
        assert own.rungs[0].arm == "m:single"
        assert own.rungs[-1].compute == most
        assert own.exponent is not None
        assert EXPONENT_LOW <= own.exponent.estimate <= EXPONENT_HIGH
        assert own.as_published


def test_flat_accuracy_has_no_exponent() -> None:
    rng = np.random.default_rng(3)
    [found] = scaling_laws(table(voting((1, 3, 5, 10)), np.full((600, 4), 0.6), rng), rng=rng).laws
    assert found.told == "not identifiable: accuracy is flat in compute"
    assert (found.exponent, found.saturation, found.as_published) == (None, None, None)


def test_two_points_and_few_queries_have_no_exponent() -> None:
    rng = np.random.default_rng(4)
    two = table(voting((1, 10)), np.tile([0.4, 0.8], (500, 1)), rng)
    few = table(voting((1, 3, 10)), np.tile([0.2, 0.6, 0.9], (60, 1)), rng)
    assert scaling_laws(two, rng=rng).laws[0].told == "not identifiable: two points fit any law"
    assert "60 queries" in scaling_laws(few, rng=rng).laws[0].told


def test_accuracy_that_falls_with_compute_is_told() -> None:
    rng = np.random.default_rng(5)
    worse = table(voting((1, 3, 10)), np.tile([0.8, 0.7, 0.6], (600, 1)), rng)
    assert scaling_laws(worse, rng=rng).laws[0].told == "accuracy falls with compute"


def test_a_ceiling_is_told_where_there_is_one_and_only_there() -> None:
    rng, arms = np.random.default_rng(6), voting((1, 2, 4, 8, 16, 64))
    spent = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 64.0])
    bent, endless = 0.7 - 0.5 / spent, 1.0 - 0.5 * spent**-0.3
    [one], [other] = (
        scaling_laws(table(arms, np.tile(right, (8_000, 1)), rng), rng=rng).laws
        for right in (bent, endless)
    )
    assert one.saturation is not None
    assert one.saturation.low <= 0.7 <= one.saturation.high
    assert other.saturation is None
    assert other.saturation_told == "none seen up to 64x"


def test_the_next_dollar_goes_where_it_surely_buys_most() -> None:
    rng, arms = np.random.default_rng(7), (*voting((1, 3, 10)), Arm(model="n", strategy="single"))
    made = table(arms, np.tile([0.5, 0.7, 0.72, 0.3], (3_000, 1)), rng)
    cheap = replace(made, cost_usd=made.cost_usd * np.array([1.0, 1.0, 1.0, 0.5]))
    best = scaling_laws(cheap, rng=rng).next_dollar
    assert best is not None
    assert (best.weaker, best.stronger) == ("n:single", arms[0].key)
    elsewhere = scaling_laws(cheap, rng=rng, traffic={arms[0].key: 0.9}).next_dollar
    assert elsewhere is not None
    assert (elsewhere.weaker, elsewhere.stronger) == (arms[0].key, arms[1].key)
    assert elsewhere.per_usd.estimate == pytest.approx(0.2 / 0.002, rel=0.15)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**31))
def test_the_order_of_arms_and_queries_changes_no_estimate(seed: int) -> None:
    rng = np.random.default_rng(seed)
    made = published(200, rng)
    arms, queries = rng.permutation(len(made.arms)), rng.permutation(200)
    moved = Table(
        arms=tuple(made.arms[place] for place in arms),
        score=made.score[queries][:, arms],
        cost_usd=made.cost_usd[queries][:, arms],
    )
    one, two = (scaling_laws(each, rng=rng, resamples=0) for each in (made, moved))
    assert [each.gain.estimate for each in one.laws] == pytest.approx(
        [each.gain.estimate for each in two.laws]
    )
    assert {(each.weaker, each.stronger) for each in one.steps} == {
        (each.weaker, each.stronger) for each in two.steps
    }


def test_arms_are_compared_on_the_queries_that_have_them_all() -> None:
    rng, arms = np.random.default_rng(8), voting((1, 3, 10))
    hard = rng.random(4_000) < 0.5
    made = table(arms, np.where(hard[:, None], [0.2, 0.3, 0.4], [0.7, 0.8, 0.9]), rng)
    gone = np.column_stack(
        [np.zeros_like(hard), np.zeros_like(hard), hard & (rng.random(4_000) < 0.9)]
    )
    [found] = scaling_laws(replace(made, score=np.where(gone, np.nan, made.score)), rng=rng).laws
    assert found.paired
    assert found.gain.low <= 0.2 <= found.gain.high


def test_a_bandit_log_counts_by_propensities() -> None:
    rng, arms = np.random.default_rng(9), voting((1, 3, 10))
    hard = rng.random(60_000) < 0.5
    made = table(arms, np.where(hard[:, None], [0.2, 0.3, 0.4], [0.7, 0.8, 0.9]), rng)
    odds = np.where(hard[:, None], [0.1, 0.2, 0.7], [0.7, 0.2, 0.1])
    picked = (odds.cumsum(axis=1) > rng.random(60_000)[:, None]).argmax(axis=1)
    seen = picked[:, None] == np.arange(3)
    [means] = resampled(
        replace(made, score=np.where(seen, made.score, np.nan), weight=1.0 / odds),
        [(0, 1, 2)],
        0,
        rng,
    )
    assert not means.paired
    assert means.score[0] == pytest.approx([0.45, 0.55, 0.65], abs=0.02)


def test_nothing_to_learn_from_is_refused() -> None:
    nothing = np.full((5, 2), np.nan)
    with pytest.raises(InvalidInput, match="score"):
        scaling_laws(
            Table(arms=voting((1, 3)), score=nothing, cost_usd=nothing),
            rng=np.random.default_rng(0),
        )


def test_figures_stand_alone_and_the_report_is_plain_json() -> None:
    made = published(400, np.random.default_rng(10))
    one, two = (scaling_laws(made, rng=np.random.default_rng(0), resamples=50) for _ in range(2))
    first, again = drawn(one), drawn(two)
    assert [each.svg for each in first] == [each.svg for each in again]
    assert len(first) == 2
    assert all(ET.fromstring(each.svg).tag.endswith("svg") for each in first)
    assert orjson.dumps(one.to_mapping()) == orjson.dumps(two.to_mapping())
    assert ScalingLaws.from_mapping(json.loads(json.dumps(one.to_mapping()))) == one


def test_a_logs_outcomes_tell_what_compute_buys() -> None:
    told = pa.Table.from_pylist(list(logs.bandit(600, seed=3).rows), SCHEMA)
    found = laws_of(told)
    assert found is not None
    assert found == laws_of(told)
    assert found.next_dollar is not None
    assert found.next_dollar.stronger.startswith("large")
    assert laws_of(told.set_column(5, "score", pa.nulls(len(told), pa.float64()))) is None


def test_a_ladder_starts_from_the_arm_that_its_strategy_repeats() -> None:
    thought = Arm(model="m", strategy="chain_of_thought", params={"style": "short"})
    votes = [
        Arm(
            model="m",
            strategy="self_consistency",
            params={"base": "chain_of_thought", "samples": count, "style": "short"},
        )
        for count in (10, 3)
    ]
    [one] = [each for each in ladders([*votes, thought]) if each.strategy == "self_consistency"]
    assert one.places == (2, 1, 0)
    assert one.compute == (2.0, 6.0, 20.0)


def test_real_strategies_are_told_apart() -> None:
    dataset = Dataset.from_table(read(shared("strategies")).table)
    made = Table(
        arms=dataset.arms, score=dataset.table("score"), cost_usd=dataset.table("cost_usd")
    )
    found = scaling_laws(made, rng=np.random.default_rng(11), resamples=100)
    fitted = [each for each in found.laws if each.told == FITTED]
    assert {each.model for each in fitted} == {arm.model for arm in dataset.arms}
    assert any("flat" in each.told for each in found.laws)
    assert found.next_dollar is not None
