"""A page that needs nothing else: one HTML file, without script, for light, dark and paper."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import TypeVar

import matplotlib as mpl
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

MOST_CHARS = 300
"""Longer texts are cut, as no name or reason needs more."""

MOST_ROWS = 80
"""A table's further rows are counted only, so that a page stays small."""

_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
_NAMESPACES = re.compile(r'\sxmlns(:\w+)?="[^"]*"')
_COLOUR = re.compile(r"#[0-9a-f]{6}\b")
_PAPER, _INK = "#ffffff", "#000000"

Drawing = TypeVar("Drawing")


class Tone(StrEnum):
    """How a cell or a line is meant."""

    PLAIN = "plain"
    GOOD = "good"
    BAD = "bad"
    FAINT = "faint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A table's cell that is meant in some way."""

    text: str
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under their columns' names; the columns at `words` hold words, the others figures."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[str | Cell]]
    words: frozenset[int] = frozenset({0})

    @property
    def cells(self) -> list[list[Cell]]:
        """The rows that are shown, each text within bounds."""
        return [[_cell(each) for each in row] for row in self.rows[:MOST_ROWS]]

    @property
    def left_out(self) -> int:
        """How many rows are not shown."""
        return max(len(self.rows) - MOST_ROWS, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """An SVG element with a sentence on how to read it; `svg` is trusted."""

    note: str
    svg: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of a page under its title."""

    title: str
    note: str = ""
    lines: tuple[str | Cell, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()

    @property
    def cells(self) -> list[Cell]:
        """The lines within bounds."""
        return list(map(_cell, self.lines[:MOST_ROWS]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A figure that is seen first, and what it is compared with."""

    name: str
    value: str
    beside: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A headline of one line, what to know next, figures, and the sections in their order."""

    title: str
    headline: Cell
    lines: tuple[str, ...] = ()
    tiles: tuple[Tile, ...] = ()
    sections: tuple[Section, ...] = ()


def html(page: Page) -> str:
    """The page's text; the same page gives the same bytes. Everything but SVG is escaped."""
    return _template().render(
        page=page,
        headline=_cell(page.headline, 2 * MOST_CHARS),
        lines=[plain(each, 2 * MOST_CHARS) for each in page.lines],
        drawn=lambda figure: Markup(_themed(figure.svg)),  # noqa: S704
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("training", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["plain"] = plain
    return environment.get_template("page.html")


def _cell(value: str | Cell, most: int = MOST_CHARS) -> Cell:
    cell = value if isinstance(value, Cell) else Cell(text=value)
    return Cell(text=plain(cell.text, most), tone=cell.tone)


def plain(text: str, most: int = MOST_CHARS) -> str:
    """The text without what can't be seen, and no longer than that."""
    seen = "".join(each if each.isprintable() else " " for each in text)
    return seen if len(seen) <= most else f"{seen[:most]}..."


def literally(draw: Callable[[], Drawing]) -> Drawing:
    """Draws with names as they are: no mathematics in them, any script."""
    with mpl.rc_context({"text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        warnings.filterwarnings("ignore", message="Matplotlib currently", category=UserWarning)
        return draw()


def _themed(svg: str) -> str:
    """The element without its metadata, in colours that follow the page's."""
    bare = _NAMESPACES.sub("", _METADATA.sub("", svg))
    return _COLOUR.sub(_variable, bare)


def _variable(found: re.Match[str]) -> str:
    colour = found[0]
    if colour == _PAPER:
        return "none"
    return "currentColor" if colour == _INK else f"var(--c{colour[1:]}, {colour})"
