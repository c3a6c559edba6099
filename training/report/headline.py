"""What a report says first: one line of verdict, what needs a person, and the main figures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from router.types import PolicyState
from training.gate.verdict import Verdict
from training.report.measured import Kind, Point, Told
from training.report.page import Cell, Tile, Tone

if TYPE_CHECKING:
    from training.report.whole import Run

_PER = 1_000.0
_MOST_REASONS = 3


def headline(run: Run) -> Cell:
    """Whether the candidate reaches traffic, and why or why not."""
    own = f"policy {run.candidate.version}"
    if run.unjudged:
        text = f"Kept {_incumbent(run)} because {own} could not be judged: {run.unjudged}"
        return Cell(text=text, tone=Tone.BAD)
    if run.verdict is None:
        return Cell(text=f"{own} {_stands(run)}; no gate judged it")
    if not run.verdict.promote:
        text = f"Kept {_incumbent(run)} because {own} {_failed(run.verdict)}"
        return Cell(text=text, tone=Tone.BAD)
    held = f"all {len(run.verdict.conditions)} conditions hold{_ahead(run.verdict)}"
    return Cell(text=f"Promoted: {own} {_stands(run)} because {held}", tone=Tone.GOOD)


def _incumbent(run: Run) -> str:
    return "the static fallback" if run.incumbent is None else f"policy {run.incumbent.version}"


def _stands(run: Run) -> str:
    match run.state:
        case PolicyState.CANARY if run.share:
            return f"is a canary on {run.share:.0%} of the traffic"
        case PolicyState.CANARY:
            return f"decides beside {_incumbent(run)}, unserved"
        case PolicyState.CANDIDATE:
            return "waits as a candidate"
        case PolicyState.ACTIVE:
            return "serves all traffic"
        case _:
            return f"is {run.state}"


def _failed(verdict: Verdict) -> str:
    failed = verdict.failed
    if not failed:
        return "was judged by no condition"
    names = ", ".join(each.name for each in failed[:_MOST_REASONS])
    more = len(failed) - _MOST_REASONS
    left = f" and {more} more" if more > 0 else ""
    return f"failed {len(failed)} of {len(verdict.conditions)} conditions: {names}{left}"


def _ahead(verdict: Verdict) -> str:
    """By how much the utility is above the first rival's, where the gate says so."""
    for each in verdict.conditions:
        gain, low = (each.measured.get(name) for name in ("difference_points", "low_points"))
        if isinstance(gain, float) and isinstance(low, float):
            rival = each.name.removeprefix("utility above the ")
            return f"; its utility is {gain:.1f} points above the {rival} (at least {low:.1f})"
    return ""


def notices(run: Run) -> Iterator[str]:
    """What a person should know or do next."""
    if run.verdict is not None and not run.verdict.promote:
        yield "Traffic is as it was, and the next run trains anew."
        yield from (f"{each.name}: {each.why}." for each in run.verdict.failed if each.why)
    if run.audit is not None and run.audit.blocks:
        yield "The fairness audit blocks; a person may let it pass with a reason."
    if run.drift is not None and run.drift.moved:
        reasons = run.drift.reasons
        more = f"; and {len(reasons) - _MOST_REASONS} more" if len(reasons) > _MOST_REASONS else ""
        told = "; ".join(reasons[:_MOST_REASONS])
        yield f"Moved since {_incumbent(run)} was trained: {told}{more}."
    agreement = run.candidate.summary.get("agreement") or {}
    if agreement.get("agrees") is False:
        yield (
            "The policy that is registered and the one that was judged in its stead differ in what "
            f"they predict of {agreement.get('worst_arm')}."
        )


def tiles(run: Run) -> Iterator[Tile]:
    """The figures that are looked at first, beside the incumbent's."""
    if run.measured is not None:
        own, before = (run.measured.point(kind) for kind in (Kind.CANDIDATE, Kind.INCUMBENT))
        if own is not None:
            yield from _points(own, before)
        yield from _errors(run)
        yield Tile(name="judged on", value=f"{run.measured.interactions:,}", beside="interactions")
    took = (run.finished_at - run.started_at).total_seconds()
    yield Tile(name="took", value=f"{took / 60.0:.1f} min" if took >= 90.0 else f"{took:.0f} s")


def _points(own: Point, before: Point | None) -> Iterator[Tile]:
    rows = (
        ("accuracy", "accuracy", 100.0, "{:.1f} %"),
        ("cost_usd", "cost per 1,000 queries", _PER, "${:.4g}"),
        ("late", "late answers", 100.0, "{:.1f} %"),
    )
    for field, name, scale, form in rows:
        now: Told | None = getattr(own, field)
        then: Told | None = None if before is None else getattr(before, field)
        if now is not None:
            beside = "" if then is None else f"incumbent {_value(then, scale, form)}"
            yield Tile(name=name, value=_value(now, scale, form), beside=beside)


def _value(told: Told, scale: float, form: str) -> str:
    return "cannot tell" if told.reason else form.format(scale * told.estimate)


def _errors(run: Run) -> Iterator[Tile]:
    found = {each.name: each.ece for each in run.measured.reliability} if run.measured else {}
    if Kind.CANDIDATE in found:
        before = found.get(Kind.INCUMBENT)
        yield Tile(
            name="calibration error",
            value=f"{found[Kind.CANDIDATE]:.3f}",
            beside="" if before is None else f"incumbent {before:.3f}",
        )
