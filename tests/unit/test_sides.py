"""Two sides of a log: newest held out, no text and no person on both, whatever the log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.log.rows import SCHEMA
from training.log.sides import LEAST_SCORED, Recent, Sides, sides
from training.log.splits import normalised

START = datetime(2026, 3, 1, tzinfo=UTC)


def row(number: int, **values: Any) -> dict[str, Any]:
    """A scored row, a minute after the one before it, of a text and a person of its own."""
    return {
        "query_id": str(number),
        "query": f"text {number}",
        "model": "m",
        "strategy": "single",
        "score": 1.0,
        "occurred_at": START + timedelta(minutes=number),
        "subject": f"person {number}",
        **values,
    }


def split(rows: list[dict[str, Any]], share: float = 0.2, seed: int = 0) -> Sides:
    return sides(pa.Table.from_pylist(rows, SCHEMA), share, seed)


def lists(count: int) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Logs in which texts and people come back, some times are unknown and some scores too."""
    one = st.fixed_dictionaries(
        {
            "query": st.sampled_from([f"Text {n}" for n in range(40)] + ["text  3", "TEXT 4 "]),
            "subject": st.none() | st.sampled_from([f"p{n}" for n in range(30)]),
            "occurred_at": st.none()
            | st.integers(0, 300).map(lambda hours: START + timedelta(hours=hours)),
            "score": st.none() | st.sampled_from([0.0, 1.0]),
        }
    )
    return st.lists(one, min_size=count, max_size=2 * count)


@settings(max_examples=30)
@given(lists(100), st.sampled_from([0.05, 0.2, 0.5]), st.integers(0, 9))
def test_no_text_stands_on_both_sides_of_any_log(
    drawn: list[dict[str, Any]], share: float, seed: int
) -> None:
    rows = [row(number, **values) for number, values in enumerate(drawn)]
    found = split(rows, share, seed)
    texts = np.array([normalised(each["query"]) for each in rows])
    assert not set(texts[found.kept]) & set(texts[found.held])
    assert not (found.kept & found.held).any()
    scored = np.array([each["score"] is not None for each in rows])
    assert (found.held & scored).any() == found.held.any()
    if found.by_time:
        times = [each["occurred_at"] or START - timedelta(days=1) for each in rows]
        at = np.array([each.timestamp() for each in times])
        assert at[found.kept].max() < at[found.held].min()
        people = np.array([each["subject"] or f"nobody {n}" for n, each in enumerate(rows)])
        often = {each for each in people if (people == each).mean() > 0.1}
        assert not set(people[found.kept]) & set(people[found.held]) - often


def test_the_newest_share_is_held_out() -> None:
    found = split([row(number) for number in range(200)])
    assert found.by_time
    assert found.held.nonzero()[0].tolist() == list(range(160, 200))
    assert found.figures == {
        "by": "time",
        "kept_rows": 160,
        "held_out_rows": 40,
        "left_out_rows": 0,
    }


@pytest.mark.parametrize(
    ("enough", "hours", "first"),
    [(1_000, 1, 160), (20, 1, 160), (20, 0.5, 170), (35, 0.5, 165), (20, 0.1, 180)],
    ids=["a short log", "within the span", "the span", "what is enough", "more than the span"],
)
def test_of_a_long_log_no_more_is_held_out_than_its_newest_span_if_that_is_enough(
    enough: int, hours: float, first: int
) -> None:
    table = pa.Table.from_pylist([row(number) for number in range(200)], SCHEMA)
    recent = Recent(scored=enough, span=timedelta(hours=hours))
    found = sides(table, 0.2, recent=recent)
    assert found.by_time
    assert abs(int(found.held.argmax()) - first) <= 1
    assert found.held[first + 1 :].all()


def test_it_is_the_newest_share_of_scores_where_the_newest_have_none_yet() -> None:
    rows = [row(number, score=None if number >= 150 else 1.0) for number in range(200)]
    found = split(rows)
    assert found.by_time
    assert found.held.argmax() == 120


def test_people_who_come_back_stand_on_either_side() -> None:
    rows = [row(number, subject=f"person {number % 40}") for number in range(800)]
    found = split(rows)
    people = np.arange(800) % 40
    assert found.by_time
    assert 10 < len(set(people[found.held])) < 30
    assert set(people[found.held]) | set(people[found.kept]) == set(range(40))


def test_a_program_that_asks_for_everyone_is_no_person() -> None:
    found = split([row(number, subject="the app") for number in range(200)])
    assert found.held.sum() == 40


@pytest.mark.parametrize("at", [None, START, datetime(1970, 1, 1, tzinfo=UTC)])
def test_without_times_that_tell_an_order_texts_are_split_by_their_hash(
    at: datetime | None,
) -> None:
    rows = [row(number, occurred_at=at, subject=None) for number in range(400)]
    found = split(rows)
    assert not found.by_time
    assert 40 < found.held.sum() < 120
    assert (found.kept | found.held).all()
    assert (split(rows[::-1]).held[::-1] == found.held).all()


def test_a_small_log_is_not_split_by_time_if_too_little_is_left_to_learn_from() -> None:
    found = split([row(number) for number in range(LEAST_SCORED + 5)], share=0.5)
    assert not found.by_time
    assert found.held.any()


def test_nobody_is_held_out_of_a_log_of_one_text() -> None:
    found = split([row(number, query="the same") for number in range(100)])
    assert found.kept.all()
