"""Splits of the benchmark: nothing that is judged on was learnt from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from router.errors import InvalidInput
from tests.kit import logs
from training.benchmark import splits
from training.log.splits import folds, holdout

LOG = logs.simulated(200)


def test_two_logs_that_share_texts_are_judged_on_the_others_alone() -> None:
    rows = [{**row, "query": f" {row['query'].upper()} "} for row in LOG.rows[:30]]
    train, test = logs.dataset(LOG.rows[:300]), logs.dataset(rows + LOG.rows[300:])
    split = splits.of_logs(train, test)
    assert split.seen == 10
    assert len(split.test.queries) == 100
    assert split.train.queries == train.queries


def test_only_queries_that_have_every_arm_are_judged_on() -> None:
    rows = [
        {**row, "score": None} if number % 30 == 0 else row for number, row in enumerate(LOG.rows)
    ]
    split = splits.held_out(logs.dataset(rows), 0.5, seed=1)
    assert split.partial > 0
    assert not np.isnan(split.test.table("score")).any()
    assert np.isnan(split.train.table("score")).any()


def test_arms_that_only_one_log_has_are_left_out_of_both() -> None:
    small = [row for row in LOG.rows[300:] if row["model"] == "large"]
    split = splits.of_logs(logs.dataset(LOG.rows[:300]), logs.dataset(small))
    assert split.left_out_arms == ("small:single",)
    assert split.train.arms == split.test.arms
    assert len(split.train.rows) == 200
    only = [row for row in LOG.rows[:300] if row["model"] == "small"]
    with pytest.raises(InvalidInput, match="no arm in common"):
        splits.of_logs(logs.dataset(only), logs.dataset(small))


def test_a_part_keeps_each_outcome_with_its_text() -> None:
    whole = LOG.dataset
    some = splits.part(whole, np.arange(200) % 3 == 0)
    known = dict(zip(whole.queries, whole.table("cost_usd"), strict=True))
    for text, costs in zip(some.queries, some.table("cost_usd"), strict=True):
        assert np.array_equal(costs, known[text])


def test_folds_judge_on_every_query_once() -> None:
    found = list(splits.folded(LOG.dataset, 4, seed=0))
    judged = [text for split in found for text in split.test.queries]
    assert sorted(judged) == sorted(LOG.texts)
    for split in found:
        assert not set(split.train.queries) & set(split.test.queries)


def test_the_splits_of_training_itself_stay_whole_inside_one_of_the_benchmark() -> None:
    for seed in range(3):
        learnt = splits.held_out(LOG.dataset, 0.3, seed).train.queries
        assert holdout(learnt, 0.2, seed).sum() > 10
        assert len(set(folds(learnt, 5, seed))) == 5


def test_fewer_queries_are_a_part_of_more() -> None:
    taken = [set(splits.few(LOG.dataset, count, seed=3).queries) for count in (10, 50, 900)]
    assert [len(each) for each in taken] == [10, 50, 200]
    assert taken[0] < taken[1] < taken[2]


def test_too_little_to_judge_on_is_refused() -> None:
    bandit = logs.bandit(200).dataset
    with pytest.raises(InvalidInput, match="have a score and a cost for each of the 3 arms"):
        splits.held_out(bandit, 0.3, seed=0)
    data = LOG.dataset
    blank = replace(data, rows=replace(data.rows, cost_usd=np.full(len(data.rows), np.nan)))
    with pytest.raises(InvalidInput, match="0 queries"):
        splits.held_out(blank, 0.3, seed=0)
