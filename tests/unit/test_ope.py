"""Off-policy evaluation: unbiased by enumeration, honest intervals, words where it cannot tell."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap, t

from router.errors import InvalidInput
from router.types import Floats
from training.evaluation.clipping import switch_clip
from training.evaluation.intervals import Scores, bernstein_margin, bootstrap_interval, t_interval
from training.evaluation.logged import Logged, one_hot
from training.evaluation.ope import Estimator, Evaluation, How, Method, compare, evaluate, scores
from training.evaluation.overlap import effective_n

SEEDS = st.integers(0, 2**32 - 1)
EVERY = tuple(Estimator)
ALIKE = How(method=Method.BOOTSTRAP)
BERNSTEIN = How(method=Method.BERNSTEIN)


def odds(rng: np.random.Generator, queries: int, arms: int) -> Floats:
    return rng.dirichlet(np.ones(arms), queries) * 0.9 + 0.1 / arms


def drawn(
    rng: np.random.Generator, n: int, arms: int = 3, behaviour: Floats | None = None
) -> tuple[Logged, Floats]:
    """A log over queries whose mean reward per arm is known, and that table (n, arms)."""
    truth = 0.2 + 0.6 * rng.random((n, arms))
    chance = odds(rng, n, arms) if behaviour is None else np.broadcast_to(behaviour, (n, arms))
    arm = (chance.cumsum(axis=1) > rng.random(n)[:, None]).argmax(axis=1)
    reward = (rng.random(n) < truth[np.arange(n), arm]).astype(float)
    logged = Logged(
        arm=arm,
        propensity=np.ascontiguousarray(chance[np.arange(n), arm]),
        reward=reward,
        predicted=np.clip(truth + rng.normal(0.0, 0.2, truth.shape), 0.0, 1.0),
        least=0.0,
        most=1.0,
    )
    return logged, truth


def enumerated(
    rng: np.random.Generator, queries: int, arms: int
) -> tuple[Logged, Floats, Floats, float]:
    """A row per (query, arm), how probable each row is, a target for the rows, and its value."""
    truth, behaviour, target = rng.random((queries, arms)), odds(rng, queries, arms), None
    target = odds(rng, queries, arms)
    query, arm = (
        np.array(each) for each in zip(*product(range(queries), range(arms)), strict=True)
    )
    logged = Logged(
        arm=arm,
        propensity=behaviour[query, arm],
        reward=truth[query, arm],
        predicted=rng.normal(size=(queries, arms))[query],
    )
    value = float((target * truth).sum(axis=1).mean())
    return logged, behaviour[query, arm] / queries, target[query], value


@settings(max_examples=50, deadline=None)
@given(SEEDS, st.integers(1, 5), st.integers(1, 4), st.sampled_from((Estimator.IPS, Estimator.DR)))
def test_ips_and_dr_are_unbiased_whatever_the_reward_model_says(
    seed: int, queries: int, arms: int, estimator: Estimator
) -> None:
    logged, chance, target, value = enumerated(np.random.default_rng(seed), queries, arms)
    assert chance @ scores(logged, target, estimator) == pytest.approx(value, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(SEEDS, st.integers(1, 5), st.integers(1, 4))
def test_dr_is_unbiased_when_answers_come_by_a_known_chance(
    seed: int, queries: int, arms: int
) -> None:
    rng = np.random.default_rng(seed)
    logged, chance, target, value = enumerated(rng, queries, arms)
    answered = 0.1 + 0.9 * rng.random(len(logged))
    known = replace(logged, response=1.0 / answered)
    lost = replace(known, reward=np.full(len(logged), np.nan))
    found = answered * scores(known, target) + (1.0 - answered) * scores(lost, target)
    assert chance @ found == pytest.approx(value, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(SEEDS, st.integers(1, 5), st.integers(2, 4), st.floats(0.1, 10.0))
def test_the_bias_of_switching_is_at_most_the_weight_above_the_clip(
    seed: int, queries: int, arms: int, clip: float
) -> None:
    logged, chance, target, value = enumerated(np.random.default_rng(seed), queries, arms)
    bounded = replace(logged, least=0.0, most=1.0)
    weight = bounded.weighed(target).weight
    bias = chance @ scores(bounded, target, Estimator.SWITCH_DR, clip=clip) - value
    assert abs(bias) <= chance @ np.where(weight > clip, weight, 0.0) + 1e-9


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(1, 30), st.integers(1, 4))
def test_every_estimator_is_its_formula(seed: int, n: int, arms: int) -> None:
    rng = np.random.default_rng(seed)
    logged, _ = drawn(rng, n, arms)
    target = odds(rng, n, arms)
    sums = dict.fromkeys(EVERY, 0.0)
    weights = 0.0
    for row in range(n):
        arm, reward = int(logged.arm[row]), float(logged.reward[row])
        weight = float(target[row, arm] / logged.propensity[row])
        direct = sum(float(target[row, each] * logged.predicted[row, each]) for each in range(arms))
        residual = reward - float(logged.predicted[row, arm])
        weights += weight
        sums[Estimator.IPS] += weight * reward
        sums[Estimator.SNIPS] += weight * reward
        sums[Estimator.DM] += direct
        sums[Estimator.DR] += direct + weight * residual
        sums[Estimator.SWITCH_DR] += direct + (weight * residual if weight <= 1.5 else 0.0)
    for estimator, total in sums.items():
        expected = total / (weights if estimator is Estimator.SNIPS else n)
        found = evaluate(logged, target, How(estimator=estimator, clip=1.5)).estimate
        assert found == pytest.approx(expected, abs=1e-9)


def test_dr_is_ips_without_a_model_and_a_perfect_model_leaves_no_noise() -> None:
    rng = np.random.default_rng(1)
    logged, truth = drawn(rng, 50)
    target = odds(rng, 50, 3)
    blank = replace(logged, predicted=np.zeros((50, 3)))
    assert scores(blank, target) == pytest.approx(scores(blank, target, Estimator.IPS))
    exact = replace(logged, reward=truth[np.arange(50), logged.arm], predicted=truth)
    assert scores(exact, target) == pytest.approx((target * truth).sum(axis=1))


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.floats(-5.0, 5.0), st.floats(0.1, 1.0))
def test_snips_moves_with_rewards_and_not_with_the_scale_of_propensities(
    seed: int, shift: float, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    logged = replace(drawn(rng, 40)[0], least=-np.inf, most=np.inf)
    target, how = odds(rng, 40, 3), How(estimator=Estimator.SNIPS)
    before = evaluate(logged, target, how).estimate
    moved = replace(logged, reward=logged.reward + shift)
    assert evaluate(moved, target, how).estimate == pytest.approx(before + shift, abs=1e-9)
    rarer = replace(logged, propensity=logged.propensity * scale)
    assert evaluate(rarer, target, how).estimate == pytest.approx(before, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.sampled_from(EVERY), st.sampled_from((Method.T, Method.BERNSTEIN)))
def test_the_order_of_rows_does_not_matter(seed: int, estimator: Estimator, method: Method) -> None:
    rng = np.random.default_rng(seed)
    logged, _ = drawn(rng, 200)
    target, order = odds(rng, 200, 3), rng.permutation(200)
    how = How(estimator=estimator, method=method)
    names = ("arm", "propensity", "reward", "predicted")
    mixed = replace(logged, **{name: getattr(logged, name)[order] for name in names})
    one, other = evaluate(logged, target, how), evaluate(mixed, target[order], how)
    for name in ("estimate", "low", "high"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-9)
    assert one.reason == other.reason


@pytest.mark.parametrize("estimator", EVERY)
def test_a_difference_is_that_of_both_estimates_and_nothing_between_equals(
    estimator: Estimator,
) -> None:
    rng = np.random.default_rng(4)
    logged, _ = drawn(rng, 400)
    one, other, how = odds(rng, 400, 3), odds(rng, 400, 3), How(estimator=estimator, clip=3.0)
    apart = evaluate(logged, one, how).estimate - evaluate(logged, other, how).estimate
    assert compare(logged, one, other, how).estimate == pytest.approx(apart)
    same = compare(logged, one, one, how)
    assert (same.low, same.estimate, same.high) == (0.0, 0.0, 0.0)


def test_a_paired_difference_is_sharper_than_two_evaluations() -> None:
    rng = np.random.default_rng(5)
    logged, _ = drawn(rng, 1_000)
    target = odds(rng, 1_000, 3)
    near = 0.9 * target + 0.1 / 3.0
    paired = compare(logged, target, near)
    assert paired.standard_error < 0.3 * evaluate(logged, target).standard_error


def test_rows_said_twice_teach_nothing_more() -> None:
    rng = np.random.default_rng(6)
    logged, _ = drawn(rng, 200)
    target, twice = odds(rng, 200, 3), np.repeat(np.arange(200), 2)
    names = ("arm", "propensity", "reward", "predicted")
    doubled = {name: getattr(logged, name)[twice] for name in names}
    again = replace(logged, **doubled, cluster=twice * 7)
    one, other = evaluate(logged, target), evaluate(again, target[twice])
    assert other.standard_error == pytest.approx(one.standard_error)
    assert (other.low, other.high) == pytest.approx((one.low, one.high))
    resampled = (evaluate(logged, target, ALIKE), evaluate(again, target[twice], ALIKE))
    assert resampled[0].low == pytest.approx(resampled[1].low)


def test_the_t_interval_of_normal_scores_is_students() -> None:
    values = np.random.default_rng(7).normal(size=5_000)
    found = t_interval(Scores(values=values), 0.9)
    half = t.ppf(0.95, 4_999) * values.std(ddof=1) / np.sqrt(5_000)
    assert found.high - found.estimate == pytest.approx(half, rel=1e-3)


def test_few_large_scores_are_worth_few_degrees_of_freedom() -> None:
    values = np.zeros(1_000)
    values[:5] = 100.0
    assert Scores(values=values).freedom == pytest.approx(10.0, rel=0.05)
    assert Scores(values=np.ones(10)).standard_error == 0.0


def test_the_bootstrap_is_scipys_but_for_wider_tails() -> None:
    values = np.random.default_rng(8).exponential(size=300)
    ours = bootstrap_interval(Scores(values=values), 0.95, seed=0)
    theirs = bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(1))
    wide = theirs.confidence_interval
    assert ours.low == pytest.approx(wide.low, abs=0.03)
    assert ours.high == pytest.approx(wide.high, abs=0.03)
    assert (ours.low, ours.high) == pytest.approx((0.89, 1.13), abs=0.12)


def test_bernsteins_margin_is_maurers_and_pontils() -> None:
    values = np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    variance = sum((a - b) ** 2 for a in values for b in values) / (2 * 5 * 4)
    expected = np.sqrt(2 * variance * np.log(2 / 0.1) / 5) + 7 * np.log(2 / 0.1) / (3 * 4)
    assert bernstein_margin(values, 1.0, 0.1) == pytest.approx(expected)


def covered(how: How, runs: int, n: int, behaviour: Floats) -> float:
    """How often the interval holds the value of always picking the last arm."""
    held, arms = 0, len(behaviour)
    rng = np.random.default_rng(9)
    target = one_hot(np.full(n, arms - 1, np.intp), arms)
    for _run in range(runs):
        logged, _ = drawn(rng, n, arms, behaviour)
        found = evaluate(logged, target, how)
        held += found.low <= 0.5 <= found.high
    return held / runs


@pytest.mark.parametrize(("method", "runs"), [(Method.T, 400), (Method.BOOTSTRAP, 40)])
def test_intervals_cover_as_often_as_they_say(method: Method, runs: int) -> None:
    share = covered(How(method=method), runs, 200, np.array([0.4, 0.35, 0.25]))
    assert 0.95 - 3.0 * np.sqrt(0.05 * 0.95 / runs) <= share


def test_bernsteins_interval_holds_even_where_the_log_misses_the_arm() -> None:
    assert covered(BERNSTEIN, 50, 500, np.array([0.9, 0.099, 0.001])) == 1.0
    rng = np.random.default_rng(10)
    logged, truth = drawn(rng, 20_000, 3, np.array([0.4, 0.35, 0.25]))
    target = one_hot(np.zeros(len(logged), np.intp), 3)
    found = evaluate(logged, target, BERNSTEIN)
    assert found.low <= truth[:, 0].mean() <= found.high
    assert found.high - found.low < 0.3


def test_the_switch_takes_the_clip_of_least_risk() -> None:
    rng = np.random.default_rng(11)
    even, _ = drawn(rng, 2_000, 3, np.full(3, 1.0 / 3.0))
    target = one_hot(np.zeros(2_000, np.intp), 3)
    assert switch_clip(even, even.weighed(target)) >= 5.0
    rare, _ = drawn(rng, 2_000, 3, np.array([0.002, 0.499, 0.499]))
    assert rare.weighed(target).weight.max() == pytest.approx(500.0)
    switched = evaluate(rare, target, How(estimator=Estimator.SWITCH_DR, clip=100.0))
    assert switched.estimate == pytest.approx(rare.predicted[:, 0].mean())


def told(behaviour: Floats, target: Floats, n: int = 1_000, seed: int = 12) -> Evaluation:
    """The evaluation of a target (arms,) from a log of a behaviour policy (arms,)."""
    arms = len(behaviour)
    logged, _ = drawn(np.random.default_rng(seed), n, arms, behaviour)
    return evaluate(logged, np.ascontiguousarray(np.broadcast_to(target, (n, arms))))


@pytest.mark.parametrize(
    ("behaviour", "target", "word"),
    [
        ((0.998, 0.001, 0.001), (0.0, 0.0, 1.0), "hardly tried"),
        ((0.998, 0.001, 0.001), (0.8, 0.0, 0.2), "worth only about"),
        ((1.0, 0.0, 0.0), (0.7, 0.3, 0.0), "hardly tried"),
        ((0.5, 0.5, 0.0), (0.9, 0.0, 0.1), "hardly tried"),
        ((0.5, 0.49, 0.01), (0.0, 0.0, 1.0), "worth only about"),
    ],
)
def test_poor_overlap_is_named_and_has_no_interval(
    behaviour: tuple[float, ...], target: tuple[float, ...], word: str
) -> None:
    for seed in range(20):
        found = told(np.array(behaviour), np.array(target), seed=seed)
        assert not found.can_tell
        assert (found.low, found.high) == (-np.inf, np.inf)
    assert word in told(np.array(behaviour), np.array(target)).reason


@pytest.mark.parametrize("target", [(1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.3, 0.3, 0.4)])
def test_good_overlap_is_not_named_poor(target: tuple[float, ...]) -> None:
    reasons = [told(np.array([0.6, 0.3, 0.1]), np.array(target), seed=each) for each in range(50)]
    assert sum(not each.can_tell for each in reasons) <= 1


def test_a_deterministic_log_tells_of_its_own_policy() -> None:
    own = told(np.array([1.0, 0.0]), np.array([1.0, 0.0]))
    assert own.can_tell
    assert own.overlap[0].effective_n == pytest.approx(1_000)


def test_a_difference_asks_for_overlap_only_where_the_policies_differ() -> None:
    rng, n = np.random.default_rng(19), 2_000
    fixed, arms = np.arange(n) % 10 < 3, np.zeros(n, np.intp)
    behaviour = np.where(fixed[:, None], [1.0, 0.0], [0.5, 0.5])
    logged, _ = drawn(rng, n, 2, behaviour)
    base, elsewhere = one_hot(arms, 2), one_hot(np.where(fixed, 0, 1), 2)
    assert compare(logged, elsewhere, base).can_tell
    few = one_hot(np.where(np.arange(n) % 100 < 3, 1, 0), 2)
    assert evaluate(logged, few).can_tell
    assert "100% of what the policy would pick" in compare(logged, few, base).reason


def test_a_region_that_was_never_tried_is_found_where_regions_are_given() -> None:
    rng, n = np.random.default_rng(13), 2_000
    region = rng.integers(0, 10, n)
    behaviour = np.where(region[:, None] == 3, [0.5, 0.5, 0.0, 0.0], np.full((1, 4), 0.25))
    logged, _ = drawn(rng, n, 4, behaviour)
    target = one_hot(np.full(n, 2, np.intp), 4)
    found = evaluate(replace(logged, region=region * 11), target)
    assert "10% of what the policy would pick" in found.reason


def test_propensities_that_do_not_fit_are_named() -> None:
    logged, _ = drawn(np.random.default_rng(14), 1_000, 2, np.array([0.5, 0.5]))
    wrong = replace(logged, propensity=logged.propensity / 2.0)
    found = evaluate(wrong, one_hot(np.zeros(1_000, np.intp), 2))
    assert "do not fit the log" in found.reason


def test_the_effective_n_is_kishs() -> None:
    assert float(effective_n(np.ones(7))) == pytest.approx(7.0)
    assert float(effective_n(np.array([1.0, 1.0, 8.0]))) == pytest.approx(100.0 / 66.0)
    assert float(effective_n(np.zeros(3))) == 0.0


@pytest.mark.parametrize("estimator", EVERY)
@pytest.mark.parametrize("method", [Method.T, Method.BOOTSTRAP])
def test_one_row_or_no_outcome_cannot_tell(estimator: Estimator, method: Method) -> None:
    rng, how = np.random.default_rng(15), How(estimator=estimator, method=method)
    one, _ = drawn(rng, 1)
    many, _ = drawn(rng, 100)
    blank = replace(many, reward=np.full(100, np.nan))
    for logged in (one, blank):
        found = evaluate(logged, odds(rng, len(logged), 3), how)
        assert found.reason.startswith("cannot tell")
        assert (found.low, found.high) == (-np.inf, np.inf)


def test_predictions_beyond_the_bounds_count_as_the_bound() -> None:
    rng = np.random.default_rng(16)
    logged, _ = drawn(rng, 60)
    target = odds(rng, 60, 3)
    wild = replace(logged, predicted=logged.predicted * 10.0 - 3.0)
    tame = replace(logged, predicted=np.clip(wild.predicted, 0.0, 1.0))
    assert scores(wild, target) == pytest.approx(scores(tame, target))


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("arm", {"arm": np.array([0, 3])}),
        ("propensity", {"propensity": np.array([0.5, 0.0])}),
        ("propensity", {"propensity": np.array([0.5, np.nan])}),
        ("reward", {"reward": np.array([0.5, 1.5])}),
        ("reward", {"reward": np.array([0.5])}),
        ("predicted", {"predicted": np.full((2, 3), np.nan)}),
        ("predicted", {"predicted": np.zeros((3, 3))}),
        ("response", {"response": np.array([1.0, 0.5])}),
        ("cluster", {"cluster": np.array([1])}),
        ("arm", {"arm": np.empty(0, np.intp)}),
    ],
)
def test_a_log_that_cannot_be_is_refused_by_field(field: str, changes: dict[str, Any]) -> None:
    logged, _ = drawn(np.random.default_rng(17), 2)
    with pytest.raises(InvalidInput) as raised:
        replace(logged, **changes)
    assert raised.value.field == field


def test_what_is_asked_in_vain_is_refused() -> None:
    logged, _ = drawn(np.random.default_rng(18), 4)
    fine = one_hot(logged.arm, 3)
    unbounded, clustered = replace(logged, most=np.inf), replace(logged, cluster=logged.arm)
    for bad in (fine[:2], 2.0 * fine, fine - 0.5, np.full((4, 3), np.nan)):
        with pytest.raises(InvalidInput, match="target"):
            evaluate(logged, bad)
    for each in (unbounded, clustered):
        with pytest.raises(InvalidInput, match="Bernstein"):
            evaluate(each, fine, BERNSTEIN)
    with pytest.raises(InvalidInput, match="confidence"):
        How(confidence=1.0)
    with pytest.raises(InvalidInput, match="clip"):
        How(clip=0.0)
