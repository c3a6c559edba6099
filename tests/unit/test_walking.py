"""The order in which trade-offs are tested: many starts, and no more false ones than stated."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.policy.hedging import Sample
from router.policy.walking import brought, cheapest, levels, passes, starts

outcomes = st.lists(st.booleans(), min_size=1, max_size=8)


@given(outcomes)
def test_from_one_start_the_walk_stops_at_the_first_failure(passing: list[bool]) -> None:
    place, begins = len(passing), (len(passing) - 1,)
    while place > 0 and passing[place - 1]:
        place -= 1
    assert cheapest(np.array([passing]), begins) == place
    assert cheapest(np.array([[passing, passing]]), begins).tolist() == [place, place]


@given(outcomes, st.data())
def test_what_a_walk_takes_passed_and_a_start_above_it_did_too(
    passing: list[bool], data: st.DataObject
) -> None:
    last = len(passing) - 1
    more = data.draw(st.sets(st.integers(0, last)))
    begins = tuple(sorted(more | {last}, reverse=True))
    found = int(cheapest(np.array([passing] * 2 * len(begins)), begins))
    assert found == last + 1 or any(
        all(passing[found : begin + 1]) for begin in begins if begin >= found
    )
    if passing[begins[-1]]:
        assert found <= begins[-1]


def test_a_start_that_fails_takes_its_part_of_the_level_with_it() -> None:
    begins, some, every = (2, 1, 0), [False, False, True], [True, True, True]
    assert cheapest(np.array([some, some, every, every]), begins) == 0
    assert cheapest(np.array([some, [False] * 3, every, every]), begins) == 3
    assert levels(0.04, begins) == pytest.approx([0.01, 0.02, 0.03, 0.04])
    assert brought(begins, 3).tolist() == [4, 3, 2]
    assert brought((2,), 3).tolist() == [1, 1, 1]


def test_walks_begin_where_training_expects_more_than_the_floor_and_never_at_the_data() -> None:
    expected = np.linspace(0.5, 0.9, 41)
    assert starts(expected, 0.7, 41) == (40, 35, 30, 25)
    assert starts(expected, 0.95, 41) == starts(None, 0.7, 41) == (40,)
    assert starts(np.array([0.5, 0.9, 0.9]), 0.7, 3) == (2, 1)


@given(st.lists(st.floats(0.0, 1.0), min_size=2, max_size=12), st.floats(0.0, 1.0), st.floats(0, 1))
def test_the_dearest_value_is_a_start_and_no_place_is_two(
    accuracy: list[float], floor: float, level: float
) -> None:
    begins = starts(np.maximum.accumulate(accuracy), floor, len(accuracy))
    assert begins[0] == len(accuracy) - 1
    assert list(begins) == sorted(set(begins), reverse=True)
    assert levels(level, begins)[-1] == pytest.approx(level)


@pytest.mark.parametrize("begins", [(2,), (2, 1), (2, 0), (2, 1, 0)])
def test_by_brute_force_a_false_value_is_chosen_no_more_often_than_stated(
    begins: tuple[int, ...],
) -> None:
    """Every sample of four queries whose right answers come in nested sets."""
    means, floor, level = np.array([0.25, 0.5, 0.75]), 0.55, 0.25
    kinds = [np.array(kind) for kind in ((0, 0, 0), (0, 0, 1), (0, 1, 1), (1, 1, 1))]
    false = 0
    for rows in product(kinds, repeat=4):
        sample = Sample(values=np.array(rows, float))
        place = int(cheapest(passes(sample, floor, level, begins), begins))
        false += place < 3 and means[place] < floor
    assert false / 4**4 <= level


@pytest.mark.parametrize("begins", [(5,), (5, 3, 2, 1)])
def test_of_many_samples_few_are_certified_below_the_floor(begins: tuple[int, ...]) -> None:
    means, floor = np.array([0.70, 0.75, 0.79, 0.80, 0.81, 0.85]), 0.80
    luck = np.random.default_rng(0).random((300, 500, 1)) < means
    sample = Sample(values=luck.reshape(300, -1).astype(float))
    passing = passes(sample, floor, 0.05, begins).reshape(-1, 500, 6)
    places = cheapest(passing, begins)
    assert (places < 3).mean() <= 0.05 + 0.03
    assert (places < 6).mean() > 0.4


def test_starts_below_the_floor_in_truth_are_taken_no_more_often_than_stated() -> None:
    """Independent values, all at the floor but the dearest: every start is a trap."""
    means, begins = np.array([0.7, 0.7, 0.7, 0.9]), (3, 2, 1, 0)
    luck = np.random.default_rng(2).random((200, 2_000, 4)) < means
    sample = Sample(values=luck.reshape(200, -1).astype(float))
    passing = passes(sample, 0.7 + 1e-9, 0.1, begins).reshape(-1, 2_000, 4)
    assert (cheapest(passing, begins) < 3).mean() <= 0.1 + 0.015
