"""The benchmark of new arms: nothing of the arm that is left out is seen before its outcomes."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from router.bundle.embedder import load_embedder
from tests.kit import logs
from tests.kit.commands import run
from training.benchmark.new_arms import judged, left_out, new_arms
from training.benchmark.results import Foretold
from training.benchmark.splits import Split, held_out
from training.learning.contexts import Encoded


@cache
def split() -> Split:
    return held_out(logs.simulated(420).dataset, 0.4, 0)


def figures(of: Split) -> dict[tuple[str, int | None], Foretold]:
    found = new_arms(of, load_embedder(), resamples=100, seed=0, progress=lambda _: None)
    return {(each.way, each.outcomes): each for each in found}


@cache
def found() -> dict[tuple[str, int | None], Foretold]:
    return figures(split())


def estimate(way: str, outcomes: int | None, name: str) -> float:
    interval = getattr(found()[way, outcomes], name)
    assert interval.low <= interval.estimate <= interval.high
    return float(interval.estimate)


def test_each_arm_is_left_out_and_each_way_is_judged() -> None:
    assert list(left_out(split())) == [0, 1, 2]
    assert {way for way, _ in found()} == {"adapted", "retrained", "constant"}
    assert {count for way, count in found() if way == "adapted"} == {0, 10, 25, 50, 100, 200, None}
    assert {count for way, count in found() if way == "retrained"} == {50, 200, None}
    assert all(each.arms == 3 for each in found().values())


def test_fifty_outcomes_tell_more_than_none_and_than_their_mean() -> None:
    assert estimate("adapted", 50, "mean_error") < estimate("adapted", 0, "mean_error")
    assert estimate("adapted", 50, "brier") < estimate("adapted", 0, "brier")
    assert estimate("adapted", 50, "brier") < estimate("constant", 50, "brier") - 0.02
    assert estimate("adapted", 0, "auc") > 0.75
    assert estimate("constant", 50, "auc") == pytest.approx(0.5)


def test_with_all_outcomes_it_comes_near_to_training_anew() -> None:
    assert estimate("adapted", None, "brier") < estimate("retrained", None, "brier") + 0.02


def test_before_any_outcome_nothing_of_the_arm_is_seen_but_its_price() -> None:
    shuffled = split().train
    mine = shuffled.rows.arm == 1
    score = np.where(mine, 1.0 - shuffled.rows.score, shuffled.rows.score)
    turned = replace(split(), train=replace(shuffled, rows=replace(shuffled.rows, score=score)))
    before, after = (_alone(each) for each in (split(), turned))
    assert before == after


def _alone(of: Split) -> tuple[float, ...]:
    """The figures of the arm in the middle, left out, before any of its outcomes."""
    encoded = Encoded.of(of.train.queries, load_embedder())
    first = next(judged(of, 1, encoded, 0))
    assert (first.way, first.outcomes) == ("adapted", 0)
    return first.figures


def test_one_arm_alone_cannot_be_left_out() -> None:
    one = logs.dataset(logs.hostile()["one arm"])
    assert (
        new_arms(
            held_out(one, 0.4, 0), load_embedder(), resamples=100, seed=0, progress=lambda _: None
        )
        == ()
    )


def test_figures_are_finite_where_all_scores_are_alike() -> None:
    rows = [{**row, "score": 1.0} for row in logs.simulated(100).rows]
    same = figures(held_out(logs.dataset(rows), 0.4, 0))
    assert all(each.brier and math.isfinite(each.brier.estimate) for each in same.values())
    assert all(each.auc is None for each in same.values())


def test_the_command_writes_them_into_both_files(tmp_path: Path) -> None:
    log = logs.write(tmp_path / "log.parquet", logs.simulated(160).rows)
    asked = ("benchmark", "--log", log, "--out", tmp_path / "out", "--new-arms")
    result = run(*asked, "--ways", "knn", "--bootstrap", "100")
    assert result.exit_code == 0, result.output
    assert "New arms" in result.output
    written = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert {each["way"] for each in written["new_arms"]} == {"adapted", "retrained", "constant"}
    report = (tmp_path / "out" / "report.html").read_text()
    assert "outcomes of the new arm" in report
    assert "Leadline, arm taken in" in report
