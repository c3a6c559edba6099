"""The sections of a training run's report, one function each; empty ones are left out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from training.drift.search import Drift, Finding, Severity
from training.fairness.figures import Against, Measure
from training.fairness.verdict import Audit, Interval, Slice
from training.gate.verdict import Condition, Verdict
from training.gate.verdict import Figure as Measurement
from training.report.figures import frontier, reliability, slices
from training.report.measured import Kind, Measured, Point, Told
from training.report.page import Cell, Figure, Section, Table, Tone, literally
from training.scaling.drawn import drawn
from training.scaling.values import ScalingLaws, Step

_PER = 1_000.0
_MOST_STEPS = 12


def verdict(found: Verdict) -> Section:
    """The gate's conditions, those that do not hold first."""
    ordered = sorted(found.conditions, key=lambda each: each.held)
    return Section(
        title="The gate's verdict",
        note="A candidate reaches traffic only where every condition is shown to hold.",
        tables=(
            Table(
                columns=("condition", "holds", "why not", "what must be", "measured"),
                rows=[_condition(each) for each in ordered],
                words=frozenset({0, 2, 3, 4}),
            ),
        ),
    )


def _condition(each: Condition) -> Sequence[str | Cell]:
    held = Cell(text="yes", tone=Tone.GOOD) if each.held else Cell(text="no", tone=Tone.BAD)
    measured = "; ".join(
        f"{name.replace('_', ' ')} {_measurement(value)}"
        for name, value in each.measured.items()
        if value is not None
    )
    return (each.name, held, each.why or "-", each.must, Cell(text=measured, tone=Tone.FAINT))


def _measurement(value: Measurement) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return "unknown"
    return figure(value) if isinstance(value, int | float) else str(value)


def figure(value: float) -> str:
    """A number for people: counts whole, others to four digits."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def between(told: Told, scale: float = 1.0, *, sign: bool = False) -> Cell:
    """An estimate with its interval, or why there is none."""
    if told.reason:
        return Cell(text=told.reason, tone=Tone.FAINT)
    return Cell(text=_between(told.estimate, told.low, told.high, scale, sign=sign))


def _between(mid: float, low: float, high: float, scale: float, *, sign: bool = False) -> str:
    sizes = [abs(scale * each) for each in (mid, low, high) if math.isfinite(each)]
    digits = max(0, min(6, 2 - math.floor(math.log10(max(*sizes, 1e-6))))) if sizes else 0
    plus = "+" if sign else ""
    said = [f"{scale * each:{plus}.{digits}f}" for each in (mid, low, high)]
    return f"{said[0]} [{said[1]}, {said[2]}]"


def moved(found: Drift) -> Section | None:
    """What drifted since the active policy was trained; None where nothing was compared."""
    if not (found.findings or found.untold):
        return None
    shown = found.moved
    lines = [] if shown else [f"nothing moved, of {len(found.findings)} figures compared"]
    lines += [f"{len(found.untold)} figures cannot be compared yet"] if found.untold else []
    table = Table(
        columns=("what moved", "kind", "severity", "adjusted p", "n before", "n now"),
        rows=[_moved(each) for each in shown],
        words=frozenset({0, 1, 2}),
    )
    return Section(
        title="Drift",
        note=(
            f"Against what the active policy was trained on, look {found.look}; all figures of a "
            "comparison are tested together."
        ),
        lines=tuple(lines),
        tables=(table,) if shown else (),
    )


def _moved(each: Finding) -> Sequence[str | Cell]:
    tone = Tone.BAD if each.severity is Severity.MAJOR else Tone.PLAIN
    severity = Cell(text=each.severity.name.lower(), tone=tone)
    counts = (f"{each.n_before:,}", f"{each.n_now:,}")
    return (str(each), each.kind, severity, f"{each.p_adjusted:.2g}", *counts)


def frontiers(found: Measured) -> Section:
    """Where the contestants stand, and what they cost."""
    plotted = frontier(found.points)
    contestants = [each for each in found.points if each.kind is not Kind.CONSTANT]
    best = sorted(
        (each for each in found.points if each.kind is Kind.CONSTANT),
        key=lambda each: (bool(each.accuracy.reason), -each.accuracy.estimate),
    )
    timed = any(each.late is not None for each in found.points)
    columns = [
        *("who", "accuracy", "cost, USD per 1,000 queries"),
        *(("later than their slo, %",) if timed else ()),
        *(("why it cannot tell",) if any(_reason(each) for each in found.points) else ()),
    ]
    return Section(
        title="Frontier, costs and latency",
        note=f"On {found.interactions:,} held-out interactions that no contestant has learnt from.",
        tables=(
            Table(
                columns=tuple(columns),
                rows=[_point(each, timed=timed)[: len(columns)] for each in (*contestants, *best)],
                words=frozenset({0, 4 if timed else 3}),
            ),
        ),
        figures=(plotted,) if plotted else (),
    )


def _point(each: Point, *, timed: bool) -> Sequence[str | Cell]:
    late = (_briefly(each.late, 100.0) if each.late else Cell(text="-"),) if timed else ()
    row = (each.name, _briefly(each.accuracy), _briefly(each.cost_usd, _PER))
    return (*row, *late, Cell(text=_reason(each), tone=Tone.FAINT))


def _briefly(told: Told, scale: float = 1.0) -> Cell:
    return Cell(text="cannot tell", tone=Tone.FAINT) if told.reason else between(told, scale)


def _reason(each: Point) -> str:
    """Why not all of a point is known; empty where it is."""
    known = (each.accuracy, each.cost_usd, each.late)
    return next(
        (told.reason.removeprefix("cannot tell: ") for told in known if told and told.reason), ""
    )


def calibration(found: Measured) -> Section | None:
    """How predictions hold."""
    plotted = reliability(found.reliability)
    return None if plotted is None else Section(title="Calibration", figures=(plotted,))


def fairness(found: Audit, against: str) -> Section:
    """What each slice gets, and how it differs from what it had."""
    told = [each for each in found.slices if each.accuracy is not None]
    order = sorted(told, key=_loss, reverse=True)
    few = len(found.slices) - len(told)
    lines: list[str | Cell] = [Cell(text=each, tone=Tone.BAD) for each in found.reasons]
    if found.override is not None:
        lines.append(f"let pass by {found.override.who}: {found.override.why}")
    lines += [f"{few} slices have too few interactions to tell"] if few else []
    gains = [(f"{each.facet}: {each.name}", gain) for each in order if (gain := gained(each))]
    plotted = slices(gains, against)
    return Section(
        title="Slices",
        note=(
            f"Accuracy, spend and thinking by slice, with {1.0 - found.level:.0%} intervals that "
            f"hold for all slices at once; gains are against the {against}."
        ),
        lines=tuple(lines),
        tables=(_slices(order, beside=bool(gains)),) if order else (),
        figures=(plotted,) if plotted else (),
    )


def gained(each: Slice) -> Told | None:
    """By how much a slice's accuracy is above what it had before; None where it is not known."""
    for found in each.shortfalls:
        if found.measure is Measure.ACCURACY and found.against is Against.INCUMBENT:
            what = found.interval
            return Told(estimate=-what.estimate, low=-what.high, high=-what.low)
    return None


def _loss(each: Slice) -> float:
    gain = gained(each)
    return 0.0 if gain is None else -gain.estimate


def _slices(order: Sequence[Slice], *, beside: bool) -> Table:
    columns = ("slice", "n", "share, %", "accuracy", "USD per 1,000", "thinking, passes")
    return Table(
        columns=(*columns, *(("gain, points",) if beside else ())),
        rows=[_slice(each, beside=beside) for each in order],
    )


def _slice(each: Slice, *, beside: bool) -> Sequence[str | Cell]:
    gain = gained(each)
    row: tuple[str | Cell, ...] = (
        f"{each.facet}: {each.name}",
        f"{each.n:,}",
        f"{100.0 * each.share:.1f}",
        _interval(each.accuracy),
        _interval(each.spend_usd, _PER),
        _interval(each.thinking),
    )
    if not beside:
        return row
    short = any(one.blocks for one in each.shortfalls)
    told = "-" if gain is None else _between(gain.estimate, gain.low, gain.high, 100.0, sign=True)
    return (*row, Cell(text=told, tone=Tone.BAD if short else Tone.PLAIN))


def _interval(found: Interval | None, scale: float = 1.0) -> str:
    return "-" if found is None else _between(found.estimate, found.low, found.high, scale)


def scaling(found: ScalingLaws) -> Section | None:
    """What more inference compute buys."""
    figures = [Figure(note=each.note, svg=each.svg) for each in literally(lambda: drawn(found))]
    if not figures and not found.steps:
        return None
    best = found.next_dollar
    line = "no step from one arm to a dearer one surely gains" if best is None else _bought(best)
    return Section(title="What compute buys", lines=(line,), figures=tuple(figures))


def _bought(step: Step) -> str:
    gain = _between(step.gain.estimate, step.gain.low, step.gain.high, 100.0, sign=True)
    return (
        f"the next dollar buys most from {step.weaker} to {step.stronger}: {gain} points of "
        f"accuracy for ${_PER * step.added_usd:.4g} more per 1,000 queries"
    )


def outcomes(found: Mapping[str, Any]) -> Section:
    """Who scored the answers, and how many answers were scored at all (`scores.interactions`)."""
    counted = ("attempts", "scored", "too_young", "failed", "imported", "never_scored_slos")
    told = [f"{found[name]:,} {name.replace('_', ' ')}" for name in counted if found.get(name)]
    share = found.get("scored_share")
    lines: list[str | Cell] = [", ".join(told)] if told else []
    if share is not None:
        worth = f"; they are worth {found['effective_scored']:,.0f} scored at random"
        lines.append(f"{share:.1%} of the answers that were due are scored{worth}")
    lines += [Cell(text=f"caution: {each}", tone=Tone.BAD) for each in found.get("cautions", ())]
    sources = found.get("sources", ())
    table = Table(
        columns=("source", "scored", "shared with others", "sensitivity", "specificity", "counts"),
        rows=[_source(each) for each in sources],
    )
    return Section(
        title="Outcomes: who scores, and how many",
        note="Reliability is learnt where several sources score the same answer.",
        lines=tuple(lines),
        tables=(table,) if sources else (),
    )


def _source(each: Mapping[str, Any]) -> Sequence[str]:
    rates = [_rate(each.get(name)) for name in ("sensitivity", "specificity")]
    learnt = "exact" if each.get("exact") else "as learnt" if each.get("learnt") else "as assumed"
    counts = [_count(each.get(name)) for name in ("scored", "shared")]
    return (str(each.get("source", "-")), *counts, *rates, learnt)


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _rate(found: Mapping[str, float] | None) -> str:
    return "-" if not found else _between(found["estimate"], found["low"], found["high"], 1.0)


def pairs(title: str, found: Iterator[tuple[str, str]] | Sequence[tuple[str, str]]) -> Section:
    """Names with their values."""
    rows = [list(each) for each in found]
    return Section(
        title=title,
        tables=(Table(columns=("what", "value"), rows=rows, words=frozenset({0, 1})),),
    )
