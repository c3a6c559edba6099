"""Laws of what scores become: reliability of sources, response of callers, maturity of answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata, zscore

from router.types import Floats, Mask
from tests.kit.shared_data import shared
from training.log import sources
from training.log.dataset import Dataset
from training.scores.maturity import arrived, ripe_after_s
from training.scores.reliability import Reconciled, reconcile
from training.scores.response import bounded, level, respond

SEEDS = st.integers(0, 2**32 - 1)
SHARES = st.floats(0.0, 1.0, allow_nan=False)


def verdicts(truth: Floats, right: float, wrong: float, rng: np.random.Generator) -> Floats:
    """What a source of this sensitivity and specificity says of the truth (n,)."""
    honest = rng.random(len(truth)) < np.where(truth > 0, right, wrong)
    return np.asarray(np.where(honest, truth, 1.0 - truth))


def crowd(seed: int, answers: int = 4_000) -> tuple[Floats, Floats, Mask]:
    """The truth (n,), the verdicts (n, 3) of three sources, and who said something (n, 3)."""
    rng = np.random.default_rng(seed)
    truth = (rng.random(answers) < 0.65).astype(float)
    said = [verdicts(truth, *rates, rng) for rates in ((0.9, 0.7), (0.8, 0.9), (0.7, 0.8))]
    return truth, np.stack(said, axis=1), rng.random((answers, 3)) < 0.7


def nothing_known(answers: int) -> Floats:
    return np.zeros((answers, 1))


def rates(found: Reconciled) -> list[tuple[float, float]]:
    return [(each.sensitivity.estimate, each.specificity.estimate) for each in found.sources]


@given(st.lists(SHARES, min_size=1, max_size=40), SEEDS)
@settings(max_examples=40, deadline=None)
def test_what_an_exact_source_says_is_never_changed(said: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = np.where(rng.random((len(said), 2)) < 0.5, rng.random((len(said), 2)), np.nan)
    scores = np.column_stack((said, noise))
    found = reconcile(("exact", "judge", "word"), scores, rng.normal(size=(len(said), 2)))
    assert found.score.tolist() == said
    assert (found.information == 1.0).all()


@given(st.lists(SHARES, min_size=1, max_size=60))
@settings(max_examples=40, deadline=None)
def test_a_source_that_nobody_can_check_is_taken_at_its_word(said: list[float]) -> None:
    found = reconcile(("judge",), np.array(said)[:, None], nothing_known(len(said)))
    assert found.score.tolist() == said
    (judge,) = found.sources
    assert (judge.learnt, judge.sensitivity.estimate) == (False, 0.85)


def test_sources_that_never_overlap_keep_the_prior() -> None:
    said = np.where(np.eye(3, dtype=bool)[np.arange(900) % 3], 1.0, np.nan)
    found = reconcile(("judge", "feedback", "verifier"), said, nothing_known(900))
    assert rates(found) == [
        pytest.approx(known) for known in ((0.85, 0.85), (0.85, 0.75), (0.9, 0.9))
    ]
    assert not any(each.learnt for each in found.sources)


def test_two_sources_that_differ_do_not_tell_which_one_errs() -> None:
    _, said, _ = crowd(0)
    found = reconcile(("judge", "verifier"), said[:, :2], nothing_known(len(said)))
    assert not any(each.learnt for each in found.sources)
    assert np.array_equal(found.score, said[:, :2].mean(axis=1))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("exact", [True, False])
def test_planted_reliabilities_are_recovered(seed: int, *, exact: bool) -> None:
    truth, said, heard = crowd(seed)
    scores, names = np.where(heard, said, np.nan), ["a", "b", "c"]
    if exact:
        checked = np.where(np.arange(len(truth)) % 4 == 0, truth, np.nan)
        scores, names = np.column_stack((checked, scores)), ["exact", *names]
    found = reconcile(tuple(names), scores, nothing_known(len(truth)))
    planted = [(0.9, 0.7), (0.8, 0.9), (0.7, 0.8)]
    np.testing.assert_allclose(rates(found)[-3:], planted, atol=0.06 if exact else 0.09)
    known = ~np.isnan(found.score)
    error = np.average(found.score[known] - truth[known], weights=found.information[known])
    assert abs(error) < (0.02 if exact else 0.05)
    crude = np.square(np.nanmean(scores[known], axis=1) - truth[known]).mean()
    assert np.square(found.score[known] - truth[known]).mean() < crude


def test_a_source_that_lies_is_found_out_by_exact_checks_alone() -> None:
    rng = np.random.default_rng(5)
    truth = (rng.random(3_000) < 0.6).astype(float)
    liar = verdicts(truth, 0.1, 0.2, rng)
    checked = np.where(np.arange(3_000) < 600, truth, np.nan)
    found = reconcile(("exact", "word"), np.column_stack((checked, liar)), nothing_known(3_000))
    rest = np.arange(3_000) >= 600
    assert np.corrcoef(found.score[rest], truth[rest])[0, 1] > 0.6


def test_guesses_are_worth_nothing_and_hide_no_difference_between_answers() -> None:
    rng = np.random.default_rng(6)
    easy = (np.arange(6_000) % 2).astype(np.float64)
    truth = (rng.random(6_000) < np.where(easy, 0.9, 0.2)).astype(float)
    judged, guessed = verdicts(truth, 0.8, 0.8, rng), verdicts(truth, 0.5, 0.5, rng)
    checked = np.where(rng.random(6_000) < 0.15, truth, np.nan)
    guessed = np.where(np.isnan(checked) & (rng.random(6_000) < 0.5), np.nan, guessed)
    sides: Floats = (2.0 * easy - 1.0)[:, None]
    columns = np.column_stack((checked, judged, guessed))
    found = reconcile(("exact", "judge", "word"), columns, sides)
    for side in (0, 1):
        mine = easy == side
        assert found.score[mine].mean() == pytest.approx(truth[mine].mean(), abs=0.04)
        assert abs(judged[mine].mean() - truth[mine].mean()) > 0.07
    alone = np.column_stack((checked, np.full(6_000, np.nan), guessed))
    told = reconcile(("exact", "judge", "word"), alone, sides)
    guesses = np.isnan(checked) & ~np.isnan(guessed)
    assert told.information[guesses].max(initial=0.0) < 0.02


@given(SEEDS, st.integers(60, 300))
@settings(max_examples=25, deadline=None)
def test_weights_have_a_mean_of_one_over_the_scored_and_are_nothing_for_the_others(
    seed: int, answers: int
) -> None:
    rng = np.random.default_rng(seed)
    scored = rng.random(answers) < rng.random()
    fold = rng.integers(0, 5, answers)
    found = respond(rng.normal(size=(answers, 3)), scored, fold, np.ones(answers))
    assert (found.weight[~scored] == 0.0).all()
    if scored.any():
        assert found.weight[scored].mean() == pytest.approx(1.0)
        assert 0.0 < found.effective <= scored.sum() * (1.0 + 1e-9)


def test_where_all_are_scored_each_counts_the_same() -> None:
    found = respond(np.ones((100, 2)), np.ones(100, bool), np.arange(100) % 5, np.ones(100))
    assert (found.weight == 1.0).all()
    assert (found.probability == 1.0).all()


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=50))
def test_no_weight_is_out_of_all_proportion(weights: list[float]) -> None:
    found = bounded(np.array(weights))
    assert found.mean() == pytest.approx(1.0)
    least_share = np.minimum(weights, 20.0 * np.mean(weights)).mean() / np.mean(weights)
    assert found.max() <= 20.0 / least_share * (1.0 + 1e-9)


@pytest.mark.parametrize("wrong", ["probability", "expectation"])
def test_a_level_is_right_when_either_model_is(wrong: str) -> None:
    rng = np.random.default_rng(8)
    shown = rng.normal(size=40_000)
    accuracy = 1.0 / (1.0 + np.exp(-shown))
    probability = 1.0 / (1.0 + np.exp(2.5 - 1.5 * shown))
    truth = (rng.random(40_000) < accuracy).astype(float)
    score = np.where(rng.random(40_000) < probability, truth, np.nan)
    flat = np.full(40_000, 0.5)
    known, expected = (flat, accuracy) if wrong == "probability" else (probability, flat)
    found = level(score, known, expected, np.ones(40_000))
    assert found is not None
    assert found.raw > truth.mean() + 0.1
    assert found.mean == pytest.approx(truth.mean(), abs=4.0 * found.error)
    assert found.error < 0.02


def test_seldom_scores_of_recorded_answers_are_weighed_back() -> None:
    """One in twenty is scored, sooner of long queries, dear models and sure answers."""
    log = Dataset.from_table(sources.read(shared("cascades")).table)
    rows, rng = log.rows.take(log.scored), np.random.default_rng(10)
    sure = rankdata(rows.confidence) / len(rows) - 0.5
    length = zscore(np.log([len(text) for text in log.queries]))[rows.query]
    arms = (rows.arm[:, None] == np.arange(len(log.arms))).astype(np.float64)
    dear = zscore(np.log(np.nanmean(log.table("cost_usd"), axis=0)))[rows.arm]
    odds = np.exp(-3.6 + 0.5 * length + 0.5 * dear + 3.0 * sure)
    scored = rng.random(len(rows)) < odds / (1.0 + odds)
    known = np.column_stack((arms, length, 4.0 * sure))
    found = respond(known, scored, rows.query % 5, np.ones(len(rows)))
    assert scored.mean() == pytest.approx(0.05, abs=0.015)
    raw = rows.score[scored].mean() - rows.score.mean()
    weighted = np.average(rows.score, weights=found.weight) - rows.score.mean()
    assert raw > 0.1
    assert abs(weighted) < 0.4 * raw


@given(SEEDS, st.floats(0.05, 1.0))
@settings(max_examples=25, deadline=None)
def test_the_curve_of_arrivals_rises_within_the_unit_interval(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    age_s, delay_s = rng.uniform(0, 30, 200), rng.exponential(3.0, 200)
    delay_s[(rng.random(200) > share) | (delay_s > age_s)] = np.nan
    times, curve = arrived(delay_s, age_s)
    assert (np.diff(times) >= 0).all()
    assert (np.diff(curve) >= 0).all()
    assert ((curve > 0) & (curve <= 1)).all()
    assert ripe_after_s(delay_s, age_s) <= np.nanmax(delay_s, initial=0.0)


@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
def test_young_answers_neither_hide_late_scores_nor_count_as_unscored(share: float) -> None:
    rng = np.random.default_rng(9)
    age_s, delay_s = rng.uniform(0, 20, 40_000), rng.exponential(2.0, 40_000)
    delay_s[(rng.random(40_000) > share) | (delay_s > age_s)] = np.nan
    assert ripe_after_s(delay_s, age_s) == pytest.approx(6.0, rel=0.12)
    _, curve = arrived(delay_s, age_s)
    assert curve[-1] == pytest.approx(share, rel=0.1)


def test_without_scores_nothing_is_waited_for() -> None:
    assert ripe_after_s(np.full(5, np.nan), np.ones(5)) == 0.0
    assert ripe_after_s(np.empty(0), np.empty(0)) == 0.0
