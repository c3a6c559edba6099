"""Answers are found where models put them, and equal ones are told from others."""

from __future__ import annotations

import json
import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import InvalidInput
from router.execution.answers import reader

KINDS = ("auto", "number", "choice", "json", "code", "text")


@pytest.mark.parametrize(
    ("kind", "text", "answer"),
    [
        ("auto", "2 + 2 is 4.\nAnswer: 4", "4"),
        ("auto", "**Answer:** 42.", "42"),
        ("auto", "Final answer is: Paris", "Paris"),
        ("auto", "so we get\n#### -7", "-7"),
        ("auto", r"thus \boxed{\frac{1}{2}}, done", r"\frac{1}{2}"),
        ("auto", "first Answer: 1, no\nAnswer: ['2', '1']", "['2', '1']"),
        ("auto", "Answer:\n  blue whale", "blue whale"),
        ("auto", "blue whale", "blue whale"),
        ("auto", "a long text\nof two lines", None),
        ("auto", '{"a": 1}', '{"a": 1}'),
        ("auto", "Here:\n```python\nprint(1)\n```", "print(1)"),
        ("number", "I get 3 + 4 = 7 apples", "7"),
        ("number", "Answer: 3 + 4 = 7 apples of 9", "7"),
        ("number", "it costs $1,234.50!", "$1,234.50"),
        ("number", "from 5-3", "3"),
        ("number", "none", None),
        ("choice", "Answer: (B) because A is not", "B"),
        ("choice", "(c)", "C"),
        ("choice", "I weigh A and B, and take D", "D"),
        ("choice", "no letter here", None),
        ("json", 'Sure: {"a": [1, 2]} as asked [3]', '{"a": [1, 2]}'),
        ("json", "```json\n[1]\n```", "[1]"),
        ("json", "{broken", None),
        ("code", "```\nx = 1\n```\nand\n```py\nx = 2\n```", "x = 2"),
        ("code", "x = 3", "x = 3"),
        ("text", " as it is ", "as it is"),
        ("text", "   ", None),
    ],
)
def test_an_answer_is_found(kind: str, text: str, answer: str | None) -> None:
    assert reader(kind).read(text) == answer


@pytest.mark.parametrize(
    ("kind", "one", "other", "same"),
    [
        ("number", "1,234.0", "1234", True),
        ("number", "1/2", "0.5", True),
        ("number", r"\frac{1}{2}", "1/2", True),
        ("number", "7", "8", False),
        ("auto", "(B)", "b.", True),
        ("auto", "The  Blue Whale.", "the blue whale", True),
        ("auto", '{"a": 1, "b": 2}', '{"b": 2,"a": 1}', True),
        ("auto", "['1', '2']", "['2', '1']", False),
        ("code", "x = 1  \n\ny = 2", "x = 1\ny = 2", True),
        ("code", "x = 1", "  x = 1", False),
    ],
)
def test_equal_answers_are_told_from_others(kind: str, one: str, other: str, same: bool) -> None:
    assert reader(kind).same(one, other) is same


def test_an_unknown_kind_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(InvalidInput, match="use one of auto, number"):
        reader("poem")


@settings(max_examples=50)
@given(st.sampled_from(KINDS), st.text(max_size=200))
def test_any_text_can_be_read_and_an_answer_is_the_same_as_itself(kind: str, text: str) -> None:
    by = reader(kind)
    answer = by.read(text)
    assert answer is None or by.same(answer, answer)


@settings(max_examples=50)
@given(
    st.fractions(-(10**12), 10**12, max_denominator=10**6),
    st.sampled_from(("Answer: {}", "so x = {}", "{}")),
)
def test_a_number_keeps_its_exact_value(value: Fraction, form: str) -> None:
    by = reader("number")
    answer = by.read(form.format(value))
    assert answer is not None
    assert by.key(answer) == str(value)


@settings(max_examples=50)
@given(
    st.recursive(
        st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=8,
    )
)
def test_json_is_the_same_however_it_is_written(value: object) -> None:
    by = reader("json")
    assert by.same(json.dumps(value), json.dumps(value, indent=2, sort_keys=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "unit", ["[", '{"a":', "answer: ", "1,234", "```", "\\boxed{", "A ", "9", "#### ", "**"]
)
def test_a_hostile_text_is_read_in_no_time(kind: str, unit: str) -> None:
    text = unit * (300_000 // len(unit))
    started = time.monotonic()
    answer = reader(kind).read(text)
    if answer is not None:
        reader(kind).key(answer)
    assert time.monotonic() - started < 2.0
