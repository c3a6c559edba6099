"""Plausible wrong answers: near misses of the right one, always the same ones."""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Iterator, Sequence
from itertools import islice
from re import fullmatch

from router.simulation.votes import WRONG_ANSWERS
from router.simulation.workload import Question, score

UNKNOWN_ANSWER = "I am a simulated model and do not know this question."


def unknown_question(text: str) -> Question:
    """A question of middling difficulty for a text that is not in the workload."""
    return Question(
        query_id="unknown", text=text, answer=UNKNOWN_ANSWER, task="unknown", difficulty=0.5
    )


def wrong_answers(question: Question) -> tuple[str, ...]:
    """WRONG_ANSWERS distinct answers that score 0."""
    distinct = dict.fromkeys(_near_misses(question.answer))
    wrong = (text for text in distinct if not score(question, text))
    return tuple(islice(wrong, WRONG_ANSWERS))


def _near_misses(answer: str) -> Iterator[str]:
    if fullmatch(r"-?\d+", answer):
        yield from _near_numbers(int(answer))
    elif answer.startswith("["):
        yield from (repr(items) for items in _reordered(literal_eval(answer)))
    elif answer.isalpha():
        yield from ("".join(letters) for letters in _reordered(answer))
    yield from (f"{answer} or {other}" for other in "abcdefgh")


def _near_numbers(value: int) -> Iterator[str]:
    for step in (1, -1, 10, -10, 2, -2, 100, 3, 11, 20):
        if value + step >= 0 or value < 0:
            yield str(value + step)


def _reordered(items: Sequence[str]) -> Iterator[list[str]]:
    for i in range(len(items) - 1):
        yield [*items[:i], items[i + 1], items[i], *items[i + 2 :]]
    for i in range(len(items)):
        yield [*items[:i], *items[i + 1 :]]
        yield [*items[: i + 1], *items[i:]]
