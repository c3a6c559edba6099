"""Questions with checkable answers whose difficulty shows in their text.

Each task is a ladder of LEVELS rungs: longer numbers, more terms, more words. The
question's difficulty is its rung. The questions come from the reasoning-gym library.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from types import MappingProxyType, ModuleType
from typing import Any
from zlib import crc32

import numpy as np

from router.errors import ConfigurationError
from router.simulation.scaling import LEVELS

Parameters = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question, its right answer, and its latent difficulty in [0, 1].

    `entry` is the library's own record, which its scoring reads.
    """

    query_id: str
    text: str
    answer: str
    task: str
    difficulty: float
    entry: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


def _exactly(name: str, value: float) -> dict[str, float]:
    return {f"min_{name}": value, f"max_{name}": value}


LADDERS: Mapping[str, Callable[[int], Parameters]] = MappingProxyType(
    {
        "chain_sum": lambda level: {
            **_exactly("terms", 2 + level),
            **_exactly("digits", 2 + level // 2),
        },
        "basic_arithmetic": lambda level: {
            **_exactly("terms", 2 + level),
            **_exactly("digits", 2 + level // 3),
        },
        "products": lambda level: {
            **_exactly("terms", 2 + level % 2),
            **_exactly("digits", 2 + level // 2),
        },
        "gcd": lambda level: {
            **_exactly("numbers", 2 + level // 3),
            "max_value": 30 * 3**level,
        },
        "lcm": lambda level: {
            **_exactly("numbers", 2 + level // 4),
            "max_value": 20 * 2**level,
        },
        "letter_counting": lambda level: _exactly("words", 4 + 2 * level**2),
        "number_sorting": lambda level: _exactly("numbers", 3 + 3 * level),
        "spell_backward": lambda level: _exactly("word_len", 3 + level),
        "simple_equations": lambda level: {
            **_exactly("terms", 2 + level // 2),
            "max_value": 10 * 3**level,
        },
        "count_bits": lambda level: {"min_n": 2 ** (4 + 3 * level), "max_n": 2 ** (7 + 3 * level)},
    }
)


def questions(count: int, seed: int) -> list[Question]:
    """Makes distinct questions of all tasks and levels alike; fewer are a prefix of more."""
    rng = np.random.default_rng([seed, len(LADDERS)])
    tasks, taken, seen = list(LADDERS), Counter[tuple[str, int]](), set[str]()
    made: list[Question] = []
    while len(made) < count:
        task, level = tasks[rng.integers(len(tasks))], int(rng.integers(LEVELS))
        question = _question(task, level, seed, taken[task, level], f"sim-{seed}-{len(made)}")
        taken[task, level] += 1
        if question.text not in seen:
            seen.add(question.text)
            made.append(question)
    return made


def score(question: Question, answer: str) -> float:
    """1.0 when the library gives the answer full marks, else 0.0.

    The library gives part marks to a text that contains the right answer, which for
    spell_backward may add up to a hair over 1; those are none here.
    """
    if not question.entry:
        return float(answer.strip() == question.answer)
    marks = _dataset(question.task, 0, 0).score_answer(answer.strip(), dict(question.entry))
    return float(marks == 1.0)


def _question(task: str, level: int, seed: int, index: int, query_id: str) -> Question:
    entry = _dataset(task, level, crc32(f"{task}/{level}/{seed}".encode()))[index]
    return Question(
        query_id=query_id,
        text=entry["question"].strip(),
        answer=str(entry["answer"]),
        task=task,
        difficulty=level / (LEVELS - 1),
        entry=entry,
    )


@cache
def _dataset(task: str, level: int, seed: int) -> Any:
    parameters = LADDERS[task](level)
    return _library().create_dataset(task, size=1_000_000, seed=seed, **parameters)


@cache
def _library() -> ModuleType:
    """Imports reasoning_gym, quietly.

    It imports pycosat, for its zebra puzzles alone, which are not used here. pycosat has
    no wheel and a fresh machine no compiler, so where it is missing an empty module
    stands in its place during the import. Raises ConfigurationError without the library.
    """
    absent = "pycosat" not in sys.modules and find_spec("pycosat") is None
    if absent:
        sys.modules["pycosat"] = ModuleType("pycosat")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("reasoning_gym")
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the simulated workload needs {error.name}: pip install 'leadline[demo]'"
        ) from None
    finally:
        if absent:
            del sys.modules["pycosat"]
