"""Answers: how they are read out of what a model said, and when two are the same.

A reader finds the answer as it was written; its key is what equal answers share: votes and
comparisons go by keys. Others come by the entry-point group `leadline.answers`.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from importlib.metadata import entry_points
from itertools import islice
from typing import Any

from router.errors import InvalidInput

GROUP = "leadline.answers"
MOST_READ_CHARS = 100_000
"""Of a longer text only so many characters at its end are read."""

MOST_NUMBER_CHARS, MOST_JSON_STARTS = 400, 200
MOST_MARKS, MOST_ANSWER_CHARS = 20, 2_000

MOST_SHORT_CHARS = 200
"""A text of one line and at most so many characters is taken for an answer alone."""

_MARKS = re.compile(
    r"\banswer\b[ *_`]{0,6}(?:is[ *_`]{0,4}:?|[:=])|^[ \t]{0,8}####(?!#)|\\boxed\{",
    re.IGNORECASE | re.MULTILINE,
)
_RATIO_FORM = r"[-+\u2212]?\d{1,30}\s?/\s?\d{1,30}(?![\d/])"
_NUMBER_FORM = r"""[-+\u2212]?[$€£]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][-+]?\d{1,3})?
    |[-+\u2212]?\.\d+"""
_NUMBER = re.compile(rf"(?<![\w.])(?:{_RATIO_FORM}|{_NUMBER_FORM})", re.VERBOSE)
_FRACTION = re.compile(r"\\[dt]?frac\{(\d{1,30})\}\{(\d{1,30})\}")
_CHOICE = re.compile(r"(?<![\w'])\(?([A-J])(?:\)|\b)(?!['\w])")
_FENCE = re.compile(r"```[^\n`]*\n(.*?)```", re.DOTALL)
_DRESS = " \t\r\n*_`\"'"

Read = Callable[[str], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """How answers of one kind are read.

    `read` finds the answer in a text, None where there is none; `key` is what answers that
    are the same have in common.
    """

    read: Read
    key: Callable[[str], str]

    def same(self, one: str, other: str) -> bool:
        """Whether two answers are the same."""
        return self.key(one) == self.key(other)


def reader(kind: str) -> Reader:
    """The reader of a kind. Raises InvalidInput where there is none."""
    known = _STANDARD.get(kind)
    if known is not None:
        return known
    for entry in entry_points(group=GROUP, name=kind):
        loaded: Reader = entry.load()
        return loaded
    raise InvalidInput(
        f"{kind!r:.80} is no kind of answer; use one of {', '.join(_STANDARD)}",
        field="answer_kind",
    )


def marked(text: str) -> str | None:
    """What stands behind the last mark of an answer: 'Answer:', '####' or a LaTeX box."""
    end = text[-MOST_READ_CHARS:]
    for mark in reversed(deque(_MARKS.finditer(end), MOST_MARKS)):
        rest = end[mark.end() : mark.end() + MOST_ANSWER_CHARS]
        found = _boxed(rest) if mark.group().endswith("{") else _line(rest)
        if found:
            return found
    return None


def number(text: str) -> str | None:
    """The number behind the last mark, or else the last one of the text."""
    tail = marked(text)
    if tail is not None:
        first = _numbers(tail.rpartition("=")[2]) or _numbers(tail)
        return first[0] if first else None
    every = _numbers(text[-MOST_READ_CHARS:])
    return every[-1] if every else None


def choice(text: str) -> str | None:
    """The letter behind the last mark, or else the last one that stands alone."""
    tail = marked(text)
    if tail is not None:
        found = _CHOICE.search(tail) or _CHOICE.search(tail.upper()[:2])
        return found.group(1) if found else None
    letters = _CHOICE.findall(text[-MOST_READ_CHARS:])
    if letters:
        return str(letters[-1])
    alone = text.strip(_DRESS + ".()").upper()
    return alone if re.fullmatch("[A-J]", alone) else None


def json_text(text: str) -> str | None:
    """The text itself, its last fenced block, or the longest object or list in it."""
    parts: list[str] = [text.strip(), *reversed(_FENCE.findall(text[-MOST_READ_CHARS:]))]
    for part in parts:
        if _parsed(part) is not None:
            return part.strip()
    return _last_json(text[-MOST_READ_CHARS:])


def code(text: str) -> str | None:
    """The last fenced block, or else the whole text."""
    blocks = _FENCE.findall(text)
    found = str(blocks[-1] if blocks else text)
    return found.strip("\n") if found.strip() else None


def words(text: str) -> str | None:
    """What stands behind the last mark, or else the whole text."""
    return marked(text) or text.strip() or None


def any_kind(text: str) -> str | None:
    """What is marked, JSON, the last fenced block, or a short text; None for a long one."""
    tail = marked(text)
    if tail is not None:
        return tail
    if _structured(text.strip()) is not None:
        return text.strip()
    blocks = _FENCE.findall(text)
    if blocks:
        return str(blocks[-1]).strip("\n")
    plain = text.strip()
    return plain if plain and "\n" not in plain and len(plain) <= MOST_SHORT_CHARS else None


def number_key(answer: str) -> str:
    """The exact value, so that 1,234.0 and 1234 are the same."""
    value = _value(answer)
    return _plain(answer) if value is None else str(value)


def json_key(answer: str) -> str:
    """The value with sorted names and no spaces."""
    found = _parsed(answer)
    return _plain(answer) if found is None else json.dumps(found[0], sort_keys=True)


def code_key(answer: str) -> str:
    """The lines without blanks at their ends and without empty ones."""
    lines = (line.rstrip() for line in answer.splitlines())
    return "\n".join(line for line in lines if line)


def any_key(answer: str) -> str:
    """As a number, as JSON, as a choice's letter, or as plain words: what it reads as."""
    bare = answer.strip(_DRESS)
    if _value(bare) is not None:
        return number_key(bare)
    if _structured(bare) is not None:
        return json_key(bare)
    letter = re.fullmatch(r"\(?([A-Ja-j])\)?[.:]?", bare)
    return letter.group(1).casefold() if letter else _plain(answer)


def _plain(answer: str) -> str:
    return " ".join(answer.casefold().strip(_DRESS + ".,;:!").split())


def _line(rest: str) -> str:
    lines = (line.strip(_DRESS) for line in rest.splitlines())
    found = next(filter(None, lines), "")
    return found.rstrip(".").rstrip(_DRESS) if not found.endswith("..") else found


def _boxed(rest: str) -> str:
    depth = 1
    for place, mark in enumerate(rest):
        depth += (mark == "{") - (mark == "}")
        if depth == 0:
            return rest[:place].strip(_DRESS)
    return ""


def _numbers(text: str) -> list[str]:
    return [each.group() for each in _NUMBER.finditer(_FRACTION.sub(r"\1/\2", text))]


def _value(text: str) -> Fraction | None:
    bare = _FRACTION.sub(r"\1/\2", text.strip(_DRESS)).replace("\u2212", "-").rstrip("%.")
    if len(bare) > MOST_NUMBER_CHARS or not _NUMBER.fullmatch(bare):
        return None
    upper, ratio, lower = re.sub(r"[$€£,\s]", "", bare).partition("/")
    if not ratio:
        return Fraction(Decimal(upper))
    return Fraction(int(upper), int(lower)) if int(lower) else None


def _parsed(text: str) -> tuple[Any] | None:
    """The value in a tuple of its own, so that null is told from nothing."""
    try:
        return (json.loads(text),)
    except (ValueError, RecursionError):
        return None


def _structured(text: str) -> tuple[Any] | None:
    return _parsed(text) if text[:1] in {"{", "["} else None


def _last_json(text: str) -> str | None:
    decoder, found, end = json.JSONDecoder(), None, 0
    for start in islice(re.finditer(r"[{\[]", text), MOST_JSON_STARTS):
        if start.start() < end:
            continue
        try:
            _, end = decoder.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            continue
        part = text[start.start() : end]
        found = part if found is None or len(part) > len(found) else found
    return found


_STANDARD: Mapping[str, Reader] = {
    "auto": Reader(read=any_kind, key=any_key),
    "number": Reader(read=number, key=number_key),
    "choice": Reader(read=choice, key=str.casefold),
    "json": Reader(read=json_text, key=json_key),
    "code": Reader(read=code, key=code_key),
    "text": Reader(read=words, key=_plain),
}
