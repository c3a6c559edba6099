"""A comparison of two policies for machines, for a terminal and as a page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from router.commands.output import say, table
from training.compare.comparison import Compared
from training.compare.measured import Difference
from training.compare.slices import SliceDifference
from training.report.figures import reliability, slices
from training.report.measured import Told
from training.report.page import Cell, Page, Section, Table, Tone, html
from training.report.sections import between, figure

MOST_SHOWN = 8
_SHOWN: Mapping[str, tuple[str, float]] = {
    "accuracy": ("accuracy, %", 100.0),
    "cost_usd": ("cost, USD per 1,000 queries", 1_000.0),
    "latency_s": ("latency, s", 1.0),
}
_COLUMNS = ("", "A", "B", "B less A, 95 %")
_SLICES = ("slice", "n", "decisions that differ", "gain as predicted, points", "gain, points")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """How both policies are called, what they were compared on, and what to be careful of."""

    one: str
    other: str
    source: str
    caution: str = ""


def to_mapping(found: Sequence[Compared], sides: Sides) -> dict[str, Any]:
    """The comparison as plain JSON values; what is not finite is None."""
    plain: dict[str, Any] = _finite({**asdict(sides), "slos": [asdict(each) for each in found]})
    return plain


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def tell(found: Sequence[Compared], sides: Sides) -> None:
    """Prints the comparison for people."""
    say(f"A: {sides.one}\nB: {sides.other}\non {sides.source}")
    if sides.caution:
        say(f"caution: {sides.caution}")
    for each in found:
        say("")
        say(_headline(each))
        table([[_plain(cell) for cell in row] for row in _rows(each)], _COLUMNS)
        _tell_slices(each.slices)


def _tell_slices(found: Sequence[SliceDifference]) -> None:
    shown = [each for each in found if each.differing > 0.0][:MOST_SHOWN]
    if shown:
        say("where they differ most:")
        table([[_plain(cell) for cell in _slice(each)] for each in shown], _SLICES)


def _plain(cell: str | Cell) -> str:
    return cell.text if isinstance(cell, Cell) else cell


def _headline(found: Compared) -> str:
    left = f"; {found.unanswered:,} have no arm" if found.unanswered else ""
    return (
        f"slo {found.slo}: {found.differing:.1%} of decisions differ, of {found.interactions:,} "
        f"interactions, {found.unseen:,} of them unseen by both{left}"
    )


def _rows(found: Compared) -> Iterator[Sequence[str | Cell]]:
    for each in found.figures:
        name, scale = _SHOWN[each.name]
        yield (f"{name}, as predicted", *_predicted(each, scale))
        yield (f"{name}, measured", *(_level(told, scale) for told in each.measured), _more(each))
    errors = {each.name: each for each in found.calibration}
    if {"A", "B"} <= errors.keys():
        one, other = errors["A"].ece, errors["B"].ece
        yield ("calibration error", f"{one:.3f}", f"{other:.3f}", f"{other - one:+.3f}")


def _predicted(each: Difference, scale: float) -> Sequence[str]:
    one, other = (scale * value for value in each.predicted)
    if math.isnan(one + other):
        return ("-", "-", "-")
    return (figure(one), figure(other), f"{other - one:+.3g}")


def _level(told: Told, scale: float) -> Cell:
    """A policy's own figure; why there is none is said of the difference."""
    return Cell(text="-") if told.reason else between(told, scale)


def _more(each: Difference) -> Cell:
    return between(each.difference, _SHOWN[each.name][1], sign=True)


def _slice(each: SliceDifference) -> Sequence[str | Cell]:
    gain = "-" if math.isnan(each.predicted) else f"{100.0 * each.predicted:+.1f}"
    measured = between(each.measured, 100.0, sign=True)
    return (f"{each.facet}: {each.name}", f"{each.n:,}", f"{each.differing:.1%}", gain, measured)


def page(found: Sequence[Compared], sides: Sides) -> str:
    """The comparison as one HTML file that needs nothing else."""
    first = found[0]
    accuracy = next((each for each in first.figures if each.name == "accuracy"), None)
    caution = (f"Caution: {sides.caution}.",) if sides.caution else ()
    return html(
        Page(
            title="Leadline policies, A and B compared",
            headline=Cell(text=_verdict(first, accuracy), tone=_tone(accuracy)),
            lines=(f"A: {sides.one}", f"B: {sides.other}", f"On {sides.source}.", *caution),
            sections=tuple(section for each in found for section in _sections(each)),
        )
    )


def _verdict(found: Compared, accuracy: Difference | None) -> str:
    head = f"{found.differing:.1%} of decisions differ under slo {found.slo}"
    if accuracy is None:
        return head
    told = accuracy.difference
    if told.reason:
        return f"{head}; of accuracy, {told.reason}"
    return f"{head}; B is {between(told, 100.0, sign=True).text} points more accurate than A"


def _tone(accuracy: Difference | None) -> Tone:
    told: Told | None = None if accuracy is None else accuracy.difference
    if told is None or told.reason or told.low <= 0.0 <= told.high:
        return Tone.PLAIN
    return Tone.GOOD if told.low > 0.0 else Tone.BAD


def _sections(found: Compared) -> Iterator[Section]:
    calibration = reliability(found.calibration, found.slo)
    yield Section(
        title=f"Slo {found.slo}",
        note=_headline(found),
        tables=(Table(columns=("what", *_COLUMNS[1:]), rows=list(_rows(found))),),
        figures=(calibration,) if calibration else (),
    )
    if not found.slices:
        return
    gains = [
        (f"{each.facet}: {each.name}", each.measured)
        for each in found.slices
        if not each.measured.reason
    ]
    drawn = slices(gains, "accuracy of A", found.slo)
    yield Section(
        title=f"Slices under slo {found.slo}",
        note="Those first that are shown to differ most; intervals hold for all slices at once.",
        tables=(Table(columns=_SLICES, rows=[_slice(each) for each in found.slices]),),
        figures=(drawn,) if drawn else (),
    )
