"""The workload's questions are distinct, checkable and the same for the same seed."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from router.simulation.answers import unknown_question, wrong_answers
from router.simulation.scaling import LEVELS
from router.simulation.votes import WRONG_ANSWERS
from router.simulation.workload import LADDERS, Question, questions, score


@pytest.fixture(scope="module")
def asked() -> list[Question]:
    return questions(3_000, 4)


def test_every_text_and_id_is_distinct(asked: list[Question]) -> None:
    assert len({question.text for question in asked}) == len(asked)
    assert len({question.query_id for question in asked}) == len(asked)


def test_fewer_questions_are_a_prefix_of_more(asked: list[Question]) -> None:
    assert questions(100, 4) == asked[:100]


def test_another_seed_asks_other_questions(asked: list[Question]) -> None:
    texts = {question.text for question in asked}
    other = questions(300, 5)
    assert sum(question.text in texts for question in other) < 30


def test_all_tasks_and_levels_come_up_alike(asked: list[Question]) -> None:
    assert {question.task for question in asked} == set(LADDERS)
    levels, counts = np.unique([question.difficulty for question in asked], return_counts=True)
    assert levels == pytest.approx(np.arange(LEVELS) / (LEVELS - 1))
    assert counts.min() > len(asked) / LEVELS * 0.8


@pytest.mark.parametrize("task", LADDERS)
def test_difficulty_shows_in_the_text(task: str, asked: list[Question]) -> None:
    mine = [question for question in asked if question.task == task]
    difficulty = [question.difficulty for question in mine]
    lengths = [len(question.text) for question in mine]
    digits = [sum(map(str.isdigit, question.text)) for question in mine]
    visible = digits if task == "simple_equations" else lengths
    assert np.corrcoef(visible, difficulty)[0, 1] > 0.75


def test_the_right_answer_scores_one_and_every_wrong_answer_none(asked: list[Question]) -> None:
    for question in asked[:600]:
        wrong = wrong_answers(question)
        assert score(question, f" {question.answer}\n") == 1.0
        assert len(set(wrong)) == WRONG_ANSWERS
        assert {score(question, text) for text in wrong} == {0.0}


def test_an_answer_that_merely_contains_the_right_one_scores_none(asked: list[Question]) -> None:
    for question in asked[:1_000]:
        assert score(question, f"{question.answer} or nothing") == 0.0
        assert score(question, "") == 0.0


def test_an_unknown_text_has_a_canned_answer() -> None:
    question = unknown_question("What is love?")
    assert score(question, question.answer) == 1.0
    assert len(wrong_answers(question)) == WRONG_ANSWERS


def test_importing_the_library_leaves_no_trace() -> None:
    program = """
import logging, sys, warnings
from router.simulation.workload import questions
warnings.simplefilter("error")
filters = list(warnings.filters)
questions(5, 1)
assert warnings.filters == filters
assert not logging.getLogger().handlers and logging.getLogger().level == logging.WARNING
module = sys.modules.get("pycosat")
assert module is None or module.__spec__ is not None
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == done.stderr == ""
