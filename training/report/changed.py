"""What a candidate was taught that the incumbent was not, and what training says that it spends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from router.types import Arm, Model
from training.report.page import Cell, Section, Table, Tone

_COUNTS = (
    ("rows", "rows"),
    ("scored_rows", "scored rows"),
    ("queries", "queries"),
    ("arms", "arms"),
)
_FIGURES = (
    ("prediction", "ece", "calibration error on its held-out queries"),
    ("prediction", "brier", "Brier score on its held-out queries"),
    ("prediction", "auc", "AUC on its held-out queries"),
    ("routing", "gap_closed", "gap to the oracle closed"),
)
_ENERGY = (("energy_wh", "Wh per decision"), ("gco2e", "gCO2e per decision"))
_MOST_NAMED = 20
_PER = 1_000.0


class Side(Protocol):
    """A policy with the summary of its training."""

    @property
    def version(self) -> int:
        """Its number in the registry."""

    @property
    def summary(self) -> Mapping[str, Any]:
        """What training says of it."""

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The arms that it knows."""

    @property
    def models(self) -> tuple[Model, ...]:
        """Their models, at the prices that it was trained with."""


def changed(candidate: Side, incumbent: Side | None) -> Section:
    """Rows, arms, prices and training's own figures, against the incumbent's."""
    own, told = f"policy {candidate.version}", list(_told(candidate, incumbent))
    if incumbent is None:
        rows = [(name, _said(now)) for name, _, now in told if now is not None]
        table = Table(columns=("what", own), rows=rows)
    else:
        both = [
            (name, _said(before), _said(now))
            for name, before, now in told
            if not (before is None and now is None)
        ]
        table = Table(columns=("what", f"policy {incumbent.version}", own), rows=both)
    prices = [] if incumbent is None else list(_prices(candidate.models, incumbent.models))
    return Section(
        title="What changed",
        lines=tuple(_lines(candidate, incumbent)),
        tables=(table, *((_price_table(prices),) if prices else ())),
    )


def _told(candidate: Side, incumbent: Side | None) -> Iterator[tuple[str, Any, Any]]:
    before: Mapping[str, Any] = {} if incumbent is None else incumbent.summary
    for key, name in (*_COUNTS, ("watermark", "newest interaction")):
        yield name, before.get(key), candidate.summary.get(key)
    for part, key, name in _FIGURES:
        yield name, held_out(before, part).get(key), held_out(candidate.summary, part).get(key)


def held_out(summary: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    """A part of the figures on held-out queries; empty where there are none."""
    found = (summary.get("held_out") or {}).get(part)
    return found if isinstance(found, Mapping) else {}


def _said(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _lines(candidate: Side, incumbent: Side | None) -> Iterator[str | Cell]:
    if incumbent is not None:
        old, new = ({arm.key for arm in each.arms} for each in (incumbent, candidate))
        yield from _named("new arms", new - old)
        yield from _named("arms that are gone", old - new)
        if old == new:
            yield "the same arms as before"
    for key, what in (
        ("arms_with_prior_cost", "no cost is known, so the published price stands in"),
        ("arms_without_latency", "no latency is known"),
    ):
        yield from _named(what, candidate.summary.get(key) or ())


def _named(what: str, keys: Sequence[str] | set[str]) -> Iterator[Cell]:
    if keys:
        shown, more = sorted(keys)[:_MOST_NAMED], max(len(keys) - _MOST_NAMED, 0)
        left = f" and {more} more" if more else ""
        yield Cell(text=f"{what}: {', '.join(shown)}{left}", tone=Tone.PLAIN)


def _prices(new: Sequence[Model], old: Sequence[Model]) -> Iterator[tuple[str, str, str]]:
    before = {model.name: model for model in old}
    for model in new:
        known = before.get(model.name)
        if known is not None and _price(known) != _price(model):
            yield model.name, _price(known), _price(model)


def _price(model: Model) -> str:
    return f"{model.input_usd_per_mtok:.4g} in, {model.output_usd_per_mtok:.4g} out"


def _price_table(prices: Sequence[Sequence[str]]) -> Table:
    columns = ("price of, USD per million tokens", "before", "now")
    return Table(columns=columns, rows=prices)


def spent(candidate: Side, incumbent: Side | None) -> Section | None:
    """Cost and energy on training's own held-out queries; None where they are not known."""
    sides = [("candidate", candidate), *((("incumbent", incumbent),) if incumbent else ())]
    rows = []
    for name, each in sides:
        routing = held_out(each.summary, "routing")
        if "accuracy" in routing:
            rows.append([f"{name}, policy {each.version}", *_spent(routing, "")])
    best = held_out(candidate.summary, "routing")
    if rows and best.get("best_constant"):
        rows.append([f"best constant: {best['best_constant']}", *_spent(best, "best_constant_")])
    if not rows:
        return None
    names = ("accuracy", "USD per 1,000 queries", *(name for _, name in _ENERGY))
    return Section(
        title="Costs and energy in training",
        note=(
            "As each run found on the queries that it held out, so that two policies' figures are "
            f"of different queries; the candidate's come by {best.get('how', 'unknown means')}."
        ),
        tables=(Table(columns=("who", *names), rows=rows),),
    )


def _spent(routing: Mapping[str, Any], of: str) -> list[str]:
    accuracy, cost_usd = (routing.get(f"{of}{name}") for name in ("accuracy", "cost_usd"))
    energy = [routing.get(f"{of}{name}") for name, _ in _ENERGY]
    values = (None if cost_usd is None else _PER * cost_usd, *energy)
    return [_said(accuracy), *("-" if value is None else f"{value:.4g}" for value in values)]
