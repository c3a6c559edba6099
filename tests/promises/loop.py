"""The loop closes: at a value of a correct answer, and under a floor that holds throughout."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from router.conditions import MonitorState
from router.slo import Slo
from tests.kit.days import Day
from tests.kit.postgres import PostgresServer
from tests.promises import ROOT, Measured, promise
from tests.promises.loop_drawn import drawn, drawn_under_floor
from tests.promises.loop_lived import (
    A_DAY,
    DAYS,
    EVENTS,
    NEW_MODEL,
    PARTS,
    PRICE_CHANGE,
    SILENT_DROP,
    Asked,
    live,
)

VALUE_USD = 0.03
_BEGINNING = Slo(name="default", accuracy_value_usd=VALUE_USD, exploration_rate=0.4)
AT_A_VALUE = Asked(
    beginning=_BEGINNING,
    settled=replace(_BEGINNING, exploration_rate=0.15, exploration_cost_share=0.15),
)
FLOOR, FLOOR_SEED = 0.64, 200
"""The floor and its world were settled on seed 0, and are judged on another."""

A_DAY_UNDER_FLOOR = 2 * A_DAY
"""A floor takes more outcomes: the gate sees trade-offs that a safe arm's log hardly tries."""

LOOKS_A_DAY = 9
"""Of the watcher, which looks every second where nobody simulates it."""

_FLOORED = Slo(name="default", min_accuracy=FLOOR, exploration_rate=0.4)
UNDER_A_FLOOR = Asked(beginning=_FLOORED, settled=replace(_FLOORED, exploration_rate=0.2))

PICTURE, FLOOR_PICTURE = (
    ROOT / "docs" / f"{name}.svg" for name in ("fourteen-days", "fourteen-days-floor")
)
_WORLD = (
    f"decisions from an empty log, a new model on day {NEW_MODEL}, a price change on day "
    f"{PRICE_CHANGE}, a silent drop on day {SILENT_DROP}"
)


@promise(
    step=4,
    name="The loop closes",
    must=f"{DAYS} simulated days of {A_DAY:,} {_WORLD}: from the first learnt policy's second day "
    "on the worth of decisions, value x accuracy - cost, is above the best constant arm's of each "
    "day together, which is chosen with hindsight",
)
def closes() -> Measured:
    """Draws the picture of the days."""
    days = _lived(AT_A_VALUE, A_DAY, PARTS)
    PICTURE.write_text(drawn(days, VALUE_USD, EVENTS))
    return judged(days)


@promise(
    step=4,
    name="A floor holds throughout",
    must=f"{DAYS} simulated days of {A_DAY_UNDER_FLOOR:,} {_WORLD}, under an slo with a floor of "
    f"{FLOOR:g} on the mean, watched {LOOKS_A_DAY} times a day: the true mean accuracy of each "
    "day's decisions, exploration included, is at least the floor; from the day after the first "
    "certificate on they cost less than the cheapest constant arm of each day that meets it, which "
    "is chosen with hindsight",
)
def holds() -> Measured:
    """Draws the picture of the days."""
    days = _lived(UNDER_A_FLOOR, A_DAY_UNDER_FLOOR, LOOKS_A_DAY, FLOOR_SEED)
    FLOOR_PICTURE.write_text(drawn_under_floor(days, FLOOR, EVENTS))
    return judged_under_floor(days)


def _lived(asked: Asked, a_day: int, parts: int, seed: int = 0) -> list[Day]:
    server = PostgresServer()
    try:
        server.start()
        server.make_template()
        with server.database() as dsn, tempfile.TemporaryDirectory() as name:
            place = Path(name)
            return live(dsn, place, asked, a_day=a_day, seed=seed, parts=parts, say=print)
    finally:
        server.remove()


def judged(days: Sequence[Day]) -> Measured:
    """Whether the loop has closed, by its days."""
    learnt = [each.day for each in days if any(each.policies)]
    if len(learnt) < 2:
        return Measured(figures="no learnt policy came to serve", held=False)
    after = [each for each in days if each.day >= learnt[1]]
    own, constant, oracle = np.mean([each.worth_usd(VALUE_USD) for each in after], axis=0)
    accuracy, cost_usd, constant_accuracy, constant_usd = (
        float(np.mean([getattr(each, name) for each in after]))
        for name in ("expected", "cost_usd", "constant_accuracy", "constant_cost_usd")
    )
    return Measured(
        figures=f"a learnt policy serves from day {learnt[0]}; from day {learnt[1]} on a decision "
        f"is worth ${1e3 * own:.2f} per 1,000, the best constant arm of each day "
        f"${1e3 * constant:.2f}, the oracle ${1e3 * oracle:.2f}; accuracy {accuracy:.3f} at "
        f"${1e3 * cost_usd:.2f}, constants {constant_accuracy:.3f} at ${1e3 * constant_usd:.2f}",
        held=bool(own > constant),
    )


def judged_under_floor(days: Sequence[Day]) -> Measured:
    """Whether the floor has held, and for less than a constant arm takes, by the days."""
    certified = [each.day for each in days if each.certified]
    lowest = min(days, key=lambda each: each.expected)
    below = [str(each.day) for each in days if each.expected < FLOOR]
    held = f"the lowest day's true accuracy is {lowest.expected:.3f} (day {lowest.day})"
    held += f", days {', '.join(below)} are below the floor" if below else ""
    after = [each for each in days if certified and each.day > certified[0]]
    if not after:
        return Measured(figures=f"{held}; no floor came to be certified", held=False)
    own, constant, oracle, accuracy = (
        float(np.mean([getattr(each, name) for each in after]))
        for name in ("cost_usd", "constant_cost_usd", "oracle_cost_usd", "expected")
    )
    policies = sorted({version for each in days for version in each.policies if version})
    told = [f"{each.day} ({each.monitor})" for each in days if each.monitor != MonitorState.HOLDING]
    return Measured(
        figures=f"{held}; certified from day {certified[0]} on, on {len(certified)} of "
        f"{len(days)} days; from day {after[0].day} on a decision costs ${1e3 * own:.2f} per "
        f"1,000 at an accuracy of {accuracy:.3f}, the cheapest constant arm of each day that meets "
        f"the floor ${1e3 * constant:.2f}, the oracle ${1e3 * oracle:.2f}; learnt policies that "
        f"decided: {', '.join(map(str, policies))}; the monitor told on days: "
        f"{', '.join(told) or 'none'}",
        held=not below and own < constant,
    )
