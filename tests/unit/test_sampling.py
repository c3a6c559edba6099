"""Adaptive sampling: votes, the rules that stop them, and what logged samples teach."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from router.policy.sampling import (
    Agreement,
    FixedSamples,
    Planned,
    SamplingModel,
    SamplingRule,
    Votes,
    states,
    voted,
)
from tests.kit import logs
from tests.kit.shared_data import shared
from training.benchmark.sampling import sampled
from training.benchmark.splits import held_out
from training.learning.sampling import ArmAccuracy, at_groups, exchangeable, fit, stopped
from training.log import sources
from training.log.dataset import Dataset, Indices
from training.log.samples import Samples, polled

ONE = np.array(0.5)


def votes(drawn: int, leader: int, runner_up: int) -> Votes:
    return Votes(drawn=np.array(drawn), leader=np.array(leader), runner_up=np.array(runner_up))


def random_model(most: int, rng: np.random.Generator, levels: int = 1) -> SamplingModel:
    size = len(states(most).votes.drawn)
    return SamplingModel(
        edges=np.linspace(0, 1, levels + 1)[1:-1],
        accuracy=rng.random((levels, size)),
        moves=rng.dirichlet((1.0, 1.0, 1.0), (levels, size)),
        most=most,
    )


def planned(model: SamplingModel, most: int, value: float, price: float) -> Planned:
    plan = model.plan(most)
    return Planned(plan=plan, value_usd=value, price_usd=np.array(price), predicted=ONE)


def followed(model: SamplingModel, rule: SamplingRule, price: float, at: int, most: int) -> float:
    """What following a rule from a state brings under the model, by recursion."""
    known, state = states(model.most), states(model.most).votes
    here = votes(int(state.drawn[at]), int(state.leader[at]), int(state.runner_up[at]))
    if here.drawn >= most or (here.drawn > 0 and rule.enough(here)):
        return float(model.accuracy[0, at])
    after = [int(known.after(np.array([at]), way)[0]) for way in range(3)]
    each = [followed(model, rule, price, place, most) for place in after]
    return float(np.dot(model.moves[0, at], each)) - price


def best(model: SamplingModel, price: float, at: int, most: int) -> float:
    """The most that any rule brings from a state, by recursion over plain counts."""
    known, state = states(model.most), states(model.most).votes
    drawn, leader, runner_up = (
        int(each[at]) for each in (state.drawn, state.leader, state.runner_up)
    )
    keep = float(model.accuracy[0, at])
    if drawn == most or leader - runner_up > most - drawn:
        return keep
    second = (drawn + 1, leader, runner_up + 1)
    first = (drawn + 1, leader + 1, runner_up)
    ways = (first, second if leader > runner_up else first, (drawn + 1, leader, runner_up))
    worth = [best(model, price, int(known.place[way]), most) for way in ways]
    return max(keep, float(np.dot(model.moves[0, at], worth)) - price)


class TestVotes:
    @pytest.mark.parametrize(
        ("answers", "wins", "counts"),
        [
            ([], None, (0, 0, 0)),
            ([None, None], None, (2, 0, 0)),
            (["a"], "a", (1, 1, 0)),
            (["a", "b", None, "b"], "b", (4, 2, 1)),
            (["a", "b", "b", "a"], "b", (4, 2, 2)),
            (["a", "b", "c"], "a", (3, 1, 1)),
        ],
    )
    def test_the_answer_that_got_there_first_leads(
        self, answers: list[str | None], wins: str | None, counts: tuple[int, int, int]
    ) -> None:
        assert voted(answers) == wins
        found = Votes.of(answers)
        assert tuple(int(each) for each in _three(found)) == counts

    @given(st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=6))
    def test_a_settled_vote_keeps_its_leader_whatever_follows(
        self, answers: list[str | None]
    ) -> None:
        most = 7
        if Votes.of(answers).settled(most):
            for rest in itertools.product(("a", "b", "c", None), repeat=most - len(answers)):
                assert voted([*answers, *rest]) == voted(answers)

    @pytest.mark.parametrize("most", [1, 2, 5])
    def test_states_are_all_that_votes_can_be_in(self, most: int) -> None:
        reached = {
            tuple(int(each) for each in (found.drawn, found.leader, found.runner_up))
            for drawn in range(most + 1)
            for answers in itertools.product(("a", "b", "c", None), repeat=drawn)
            for found in [Votes.of(answers)]
        }
        known = states(most).votes
        listed = list(zip(*(each.tolist() for each in _three(known)), strict=True))
        assert sorted(reached) == listed
        assert states(most).at(known).tolist() == list(range(len(listed)))

    def test_votes_of_more_samples_than_known_are_scaled_down(self) -> None:
        assert states(5).at(votes(10, 8, 2)) == states(5).at(votes(5, 4, 1))


def _three(found: Votes) -> tuple[Indices, ...]:
    return found.drawn, found.leader, found.runner_up


class TestRules:
    @pytest.mark.parametrize(
        "rule",
        [
            FixedSamples(samples=6),
            Agreement(threshold=0.9, most=6),
            planned(random_model(6, np.random.default_rng(0)), 6, 100.0, 0.1),
            planned(random_model(6, np.random.default_rng(1)), 6, 0.0, 0.1),
            planned(random_model(6, np.random.default_rng(2)), 6, 1.0, 0.0),
        ],
    )
    def test_none_is_content_with_nothing_and_all_are_with_their_most(
        self, rule: SamplingRule
    ) -> None:
        known = states(6).votes
        enough = rule.enough(known)
        assert not enough[known.drawn == 0].any()
        assert enough[known.drawn == 6].all()

    @pytest.mark.parametrize(("leader", "runner_up"), [(1, 0), (4, 0), (3, 2), (7, 4)])
    def test_agreement_is_the_posterior_of_staying_ahead(self, leader: int, runner_up: int) -> None:
        def density(p: float) -> float:
            return float(p**leader * (1 - p) ** runner_up)

        ahead = quad(density, 0.5, 1)[0] / quad(density, 0, 1)[0]
        found = votes(leader + runner_up, leader, runner_up)
        assert Agreement(threshold=ahead - 1e-9).enough(found)
        assert not Agreement(threshold=ahead + 1e-9).enough(found)

    def test_the_default_agreement_wants_four_alike(self) -> None:
        assert [bool(Agreement().enough(votes(k, k, 0))) for k in (3, 4)] == [False, True]

    @pytest.mark.parametrize("most", [3, 5])
    @pytest.mark.parametrize("price", [1e-9, 3e-3, 0.02, 0.11, 0.7])
    def test_a_plan_is_as_good_as_the_best_of_all_rules(self, most: int, price: float) -> None:
        model = random_model(5, np.random.default_rng(most))
        rule = planned(model, most, 1.0, price)
        for at in np.flatnonzero(states(5).votes.drawn == 1):
            found = followed(model, rule, price, int(at), most)
            assert found == pytest.approx(
                best(model, price, int(at), most), abs=most * 0.03 * price
            )

    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, 10_000), st.floats(1e-4, 1.0), st.integers(2, 4))
    def test_a_plan_is_never_worse_than_keeping_under_its_model(
        self, seed: int, price: float, most: int
    ) -> None:
        model = random_model(4, np.random.default_rng(seed))
        rule = planned(model, most, 1.0, price)
        known = states(4).votes
        for at in np.flatnonzero((known.drawn > 0) & (known.drawn <= most)):
            found = followed(model, rule, price, int(at), most)
            assert found >= model.accuracy[0, at] - 1e-12

    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, 10_000), st.floats(0.0, 50.0), st.floats(0.0, 50.0))
    def test_more_value_draws_no_fewer_samples(self, seed: int, one: float, other: float) -> None:
        model = random_model(6, np.random.default_rng(seed))
        less, more = (
            planned(model, 6, value, 0.1).enough(states(6).votes) for value in sorted((one, other))
        )
        assert not (more & ~less).any()

    def test_a_vote_that_cannot_change_is_never_paid_for(self) -> None:
        rule = planned(random_model(10, np.random.default_rng(0)), 10, 1e9, 1e-9)
        known = states(10).votes
        assert rule.enough(known)[known.settled(10)].all()

    def test_levels_of_predicted_accuracy_have_plans_of_their_own(self) -> None:
        model = random_model(4, np.random.default_rng(3), levels=2)
        predicted = np.array([0.2, 0.8])
        found = model.belief(votes(2, 1, 1), predicted)
        assert found.tolist() == model.accuracy[:, states(4).place[2, 1, 1]].tolist()
        limits = model.plan(4).price_limit(votes(2, 1, 1), predicted)
        assert limits[0] != limits[1]

    def test_a_model_survives_its_bundle_and_a_bundle_may_have_none(self) -> None:
        model = random_model(4, np.random.default_rng(4), levels=3)
        again = SamplingModel.from_mapping(model.to_mapping())
        assert again is not None
        for name, array in model.to_mapping().items():
            assert name.startswith("sampling_")
            assert np.array_equal(array, again.to_mapping()[name])
        assert again.most == 4
        assert SamplingModel.from_mapping({}) is None


def table(rows: Sequence[logs.Row]) -> pa.Table:
    return sources.from_batches([pa.RecordBatch.from_pylist(list(rows))]).table


def sample(
    query: int, index: int, answer: str | None, score: float | None, arm: int = 0
) -> logs.Row:
    return logs.row(
        *(f"q{query}", f"text {query:05}", arm),
        sample_idx=index,
        answer=answer,
        score=score,
        cost_usd=1e-4 * (1 + 9 * arm),
    )


def polls(queries: int, *, most: int = 10, seed: int = 0) -> list[logs.Row]:
    """Samples whose right answer is drawn with a probability that differs by query and arm."""
    rng = np.random.default_rng(seed)
    skill = rng.normal(size=queries)
    rows = []
    for query, arm in itertools.product(range(queries), range(2)):
        right = 1 / (1 + np.exp(-1.5 * skill[query] - arm))
        shares = np.append(right, (1 - right) * rng.dirichlet((0.5, 0.5, 0.5, 0.5)))
        drawn = rng.choice(5, most, p=shares)
        rows += [
            sample(query, index, None if answer == 4 else "abcd"[answer], float(answer == 0), arm)
            for index, answer in enumerate(drawn)
        ]
    return rows


def grouped(rows: Sequence[logs.Row]) -> Samples:
    found = Samples.from_table(table(rows))
    assert found is not None
    return found


def _of_another_arm() -> list[logs.Row]:
    return [sample(99, index, "a", 1.0, arm=2) for index in range(3)]


def taught(samples: Samples, seed: int = 0) -> SamplingModel:
    model = fit(samples, ArmAccuracy.of(samples).at(samples), seed=seed)
    assert model is not None
    return model


class TestSamples:
    def test_rows_become_groups_in_the_order_of_their_samples(self) -> None:
        rows = [
            sample(1, 2, "x", 1.0),
            sample(1, 0, "y", 0.0),
            sample(1, 1, None, None),
            sample(0, 0, "x", 0.0),
            sample(0, 1, "x", 0.0),
        ]
        found = grouped(rows)
        assert found.query == ("text 00000", "text 00001")
        assert found.drawn.tolist() == [2, 3]
        assert found.answer[1].tolist()[1] == -1
        assert found.answer[1, 0] != found.answer[1, 2]
        assert found.score[1].tolist() == [0.0, 0.0, 1.0]
        assert found.price_usd.tolist() == pytest.approx([1e-4, 1e-4])

    def test_the_order_of_the_log_does_not_matter(self) -> None:
        rows = polls(60)
        shuffled = [rows[place] for place in np.random.default_rng(0).permutation(len(rows))]
        one, two = (taught(grouped(each)).to_mapping() for each in (rows, shuffled))
        assert all(np.allclose(one[name], two[name]) for name in one)

    def test_a_score_tells_that_of_all_equal_answers(self) -> None:
        found = grouped([sample(0, 0, "x", None), sample(0, 1, "x", 1.0), sample(0, 2, "y", 0.0)])
        assert found.score[0].tolist() == [1.0, 1.0, 0.0]

    @pytest.mark.parametrize(
        "rows",
        [
            [sample(0, 0, "x", 1.0)],
            [sample(0, 0, "x", 1.0), sample(0, 1, "y", None)],
            [sample(0, 0, None, 0.0), sample(0, 1, None, 0.0)],
            [{**sample(0, k, "x", 1.0), "sample_idx": None, "decision_id": str(k)} for k in (0, 1)],
        ],
        ids=["one sample", "an answer without score", "no answers", "no samples"],
    )
    def test_what_teaches_nothing_is_left_out(self, rows: list[logs.Row]) -> None:
        assert Samples.from_table(table(rows)) is None

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.sampled_from(["a", "b", "c", None]), min_size=2, max_size=8))
    def test_polls_are_the_votes_that_serving_counts(self, answers: list[str | None]) -> None:
        scores = {"a": 0.25, "b": 0.5, "c": 0.75, None: 0.0}
        rows = [sample(0, k, answer, scores[answer]) for k, answer in enumerate(answers)]
        if all(answer is None for answer in answers):
            return
        found = polled(grouped(rows))
        for count in range(1, len(answers) + 1):
            seen, state = answers[:count], Votes.of(answers[:count])
            polled_state = [int(each[0, count - 1]) for each in _three(found.votes)]
            assert polled_state == [int(each) for each in _three(state)]
            assert found.score[0, count - 1] == scores[voted(seen)]

    def test_samples_that_a_rule_may_have_stopped_keep_their_order(self) -> None:
        rows = [*polls(5, most=4), *(sample(99, k, "a", 1.0) for k in range(2))]
        found = grouped(rows)
        free = exchangeable(found)
        by_arm = dict(zip(found.arm, free.tolist(), strict=True))
        assert by_arm == {"small:single": False, "large:single": True}
        again = found.reordered(np.random.default_rng(0), free)
        assert np.array_equal(again.answer[~free], found.answer[~free])
        assert np.array_equal(np.sort(again.answer), np.sort(found.answer))


class TestFit:
    def test_beliefs_hold_on_unseen_queries(self) -> None:
        seen_before, unseen = grouped(polls(900)), grouped(polls(900, seed=1))
        model, means = taught(seen_before), ArmAccuracy.of(seen_before).at(unseen)
        found = polled(unseen)
        belief = model.belief(found.votes, means[:, None])
        for count in (1, 3, 10):
            seen = belief[:, count - 1]
            edges = np.quantile(seen, (0.25, 0.5, 0.75))
            part = np.searchsorted(edges, seen)
            for quarter in np.unique(part):
                which = part == quarter
                score = found.score[which, count - 1]
                assert seen[which].mean() == pytest.approx(score.mean(), abs=0.08)

    def test_a_learnt_plan_is_as_accurate_as_all_samples_with_fewer(self) -> None:
        seen_before, unseen = grouped(polls(900)), grouped(polls(900, seed=1))
        model, means = taught(seen_before), ArmAccuracy.of(seen_before).at(unseen)[:, None]
        rule = Planned(
            plan=model.plan(10), value_usd=1_000.0, price_usd=np.ones(()), predicted=means
        )
        found = polled(unseen)
        learnt, whole = stopped(rule, found), stopped(FixedSamples(samples=10), found)
        assert learnt.score.mean() > whole.score.mean() - 0.01
        assert learnt.drawn.mean() < 7.5

    def test_the_same_samples_teach_the_same(self) -> None:
        samples = grouped(polls(60))
        one, two = (taught(samples, seed=3).to_mapping() for _ in range(2))
        assert all(np.array_equal(one[name], two[name]) for name in one)

    def test_drawing_behind_a_clear_leader_adds_nothing_by_itself(self) -> None:
        model = taught(grouped(polls(200)))
        known = states(10).votes
        clear = np.flatnonzero((known.leader > known.runner_up) & (known.drawn < 10))
        after = model.next(model.accuracy[:, :, None], clear)[:, :, 0]
        assert after == pytest.approx(model.accuracy[:, clear])

    @pytest.mark.parametrize(
        "rows",
        [
            [{**row, "score": 1.0} for row in polls(60)],
            [{**row, "score": 0.0, "cost_usd": None} for row in polls(60)],
            [{**row, "answer": "a", "score": 1.0} for row in polls(60)],
            [{**row, "answer": str(index)} for index, row in enumerate(polls(60))],
            [row for row in polls(60) if row["sample_idx"] < 2 + int(row["query_id"][1:]) % 9],
            polls(60, most=45),
        ],
        ids=["all right", "all wrong", "one answer", "no two alike", "stopped", "many samples"],
    )
    def test_unkind_logs_teach_what_can_be_planned_with(self, rows: list[logs.Row]) -> None:
        model = taught(grouped(rows))
        assert np.isfinite(model.accuracy).all()
        assert ((model.accuracy >= 0) & (model.accuracy <= 1)).all()
        assert model.moves.sum(axis=2) == pytest.approx(1.0)
        assert (model.plan(10).limit < 1).all()

    def test_few_samples_teach_nothing(self) -> None:
        samples = grouped(polls(20))
        assert fit(samples, ArmAccuracy.of(samples).at(samples), seed=0) is None

    def test_groups_take_the_prediction_of_their_query_and_arm(self) -> None:
        rows = polls(60)
        dataset, samples = logs.dataset(rows), grouped([*rows, *_of_another_arm()])
        accuracy = dataset.table("score")
        found = at_groups(samples, dataset, accuracy)
        known = np.array([text != "text 00099" for text in samples.query])
        assert np.isnan(found[~known]).all()
        right = samples.score.sum(axis=1) / samples.drawn
        assert found[known] == pytest.approx(right[known])

    def test_groups_without_a_prediction_are_left_out(self) -> None:
        samples = grouped(polls(60))
        predicted = np.where(np.arange(len(samples)) % 7 == 0, np.nan, 0.6)
        model = fit(samples, predicted, seed=0)
        assert model is not None
        assert np.isfinite(model.accuracy).all()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_on_real_samples_half_of_them_are_as_accurate_as_all(seed: int) -> None:
    log = sources.validated(shared("strategy_samples"))
    samples = Samples.from_table(log)
    assert samples is not None
    split = held_out(Dataset.from_table(log), 0.3, seed)
    found = {each.rule: each for each in sampled([split], samples, 500, seed)}
    learnt, one = found["learnt, an answer worth 1,000 samples"], found["1 sample"]
    assert one.difference.high < 0
    assert learnt.difference.low > -0.005
    assert learnt.sample_share.high < 0.52
