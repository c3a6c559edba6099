"""Off-policy evaluation holds: intervals cover, DR errs less than IPS, poor overlap is named.

Per table, a reward model is fitted to one half of the queries; the other half, which it has
not seen, is the population, whose mean under a target policy is the truth. Logs of
behaviour policies are drawn from it with replacement and evaluated, again and again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from rich.console import Console
from rich.table import Table

from router.types import Floats
from tests.kit import offpolicy
from tests.kit.offpolicy import CONSTANT, DIFFERENCE, INFORMED, KNOWING, ROUTED, UNIFORM, People
from tests.kit.shared_data import SHARED_DATA
from tests.promises import Measured
from training.benchmark.splits import held_out
from training.evaluation.logged import Logged
from training.evaluation.ope import Estimator, Evaluation, compare, evaluate, scores
from training.evaluation.overlap import overlap
from training.log.dataset import Dataset
from training.log.sources import read

TABLES = ("cascades", "strategies", "routellm", "mmlu_pro")
BEHAVIOURS = (UNIFORM, INFORMED, KNOWING)
QUESTIONS = (ROUTED, CONSTANT, DIFFERENCE)
RUNS = 500
N = 3_000
PLANTED_RUNS = 50
PLANTED_SIZES = (500, 3_000)
SHARES = (0.1, 0.25, 0.5, 1.0)
GOOD_N = 60.0
"""What a log must be worth in truth before naming its overlap poor is needless."""

Results = list[tuple[Evaluation, float]]
Plant = Callable[[People, float, float], tuple[Floats, Floats]]
PLANTS: dict[str, tuple[Plant, float]] = {
    "a greedy logger with floors of 0.001": (offpolicy.greedy_logger, offpolicy.FLOOR),
    "a deterministic logger": (offpolicy.greedy_logger, 0.0),
    "an arm at 0.001": (offpolicy.without_arm, offpolicy.FLOOR),
    "an arm that is new since": (offpolicy.without_arm, 0.0),
    "a region at 0.001": (offpolicy.without_region, offpolicy.FLOOR),
    "a region never tried": (offpolicy.without_region, 0.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What logged sets told of one question: covered and told are shares, errors are RMSE."""

    table: str
    behaviour: str
    reward: str
    question: str
    effective_n: float
    told: float
    covered: float
    dr: float
    ips: float


@cache
def crowd(table: str) -> People:
    """A table of real outcomes, with a reward model that is fitted to one half of it."""
    log = Dataset.from_table(read(SHARED_DATA / f"{table}.parquet").table)
    return offpolicy.people(table, held_out(log, 0.5, 0))


def cells(people: People, behaviour: str, n: int, runs: int, seed: int) -> Iterator[Cell]:
    """Evaluates every question about every reward from many logged sets of n."""
    odds, rng = people.odds[behaviour], np.random.default_rng(seed)
    found: dict[tuple[str, str], Results] = {}
    for _run in range(runs):
        drawn = offpolicy.draw(odds, n, rng)
        targets = {name: each[drawn.query] for name, each in people.targets.items()}
        for reward, table in people.rewards.items():
            logged = drawn.logged(table)
            for question in QUESTIONS:
                both = _ask(logged, targets, question), _ips(logged, targets, question)
                found.setdefault((reward, question), []).append(both)
    for asked_of, results in found.items():
        yield _cell(people, behaviour, asked_of, n, results)


def _ask(logged: Logged, targets: dict[str, Floats], question: str) -> Evaluation:
    if question == DIFFERENCE:
        return compare(logged, targets[ROUTED], targets[CONSTANT])
    return evaluate(logged, targets[question])


def _ips(logged: Logged, targets: dict[str, Floats], question: str) -> float:
    if question == DIFFERENCE:
        return _ips(logged, targets, ROUTED) - _ips(logged, targets, CONSTANT)
    return float(scores(logged, targets[question], Estimator.IPS).mean())


def _cell(
    people: People, behaviour: str, asked_of: tuple[str, str], n: int, results: Results
) -> Cell:
    reward, question = asked_of
    true, odds = people.rewards[reward].true, people.odds[behaviour]
    means = {name: float((each * true).sum(axis=1).mean()) for name, each in people.targets.items()}
    means[DIFFERENCE] = means[ROUTED] - means[CONSTANT]
    asked = (ROUTED, CONSTANT) if question == DIFFERENCE else (question,)
    truth, told = means[question], [dr for dr, _ in results if dr.can_tell]
    errors = np.array([(dr.estimate - truth, ips - truth) for dr, ips in results])
    rmse = np.sqrt(np.square(errors).mean(axis=0)).tolist()
    return Cell(
        table=people.name,
        behaviour=behaviour,
        reward=reward,
        question=question,
        effective_n=min(offpolicy.effective_n(odds, people.targets[each], n) for each in asked),
        told=len(told) / len(results),
        covered=float(np.mean([each.low <= truth <= each.high for each in told])) if told else 1.0,
        dr=rmse[0],
        ips=rmse[1],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Flagged:
    """How often the overlap of one plant was named poor."""

    table: str
    plant: str
    share: float
    n: int
    flagged: float


def planted(people: People, runs: int, seed: int) -> Iterator[Flagged]:
    """Logs whose behaviour policy hardly or never tries what the target picks."""
    for (plant, (make, floor)), share, n in _plants():
        odds, target = make(people, share, floor)
        rng = np.random.default_rng(seed)
        named = [not _told(people, odds, target, n, rng) for _run in range(runs)]
        yield Flagged(
            table=people.name, plant=plant, share=share, n=n, flagged=float(np.mean(named))
        )


def _plants() -> Iterator[tuple[tuple[str, tuple[Plant, float]], float, int]]:
    return (
        (plant, share, n) for plant in PLANTS.items() for share in SHARES for n in PLANTED_SIZES
    )


def _told(people: People, odds: Floats, target: Floats, n: int, rng: np.random.Generator) -> bool:
    drawn = offpolicy.draw(odds, n, rng)
    logged = drawn.logged(people.rewards["accuracy"])
    return overlap(logged.weighed(target[drawn.query])).can_tell


def show(found: list[Cell], flagged: list[Flagged]) -> None:
    """Prints every cell, for whoever wants more than the worst."""
    table = Table(
        "table", "behaviour", "reward", "question", "worth", "told", "covered", "IPS / DR"
    )
    for each in found:
        figures = (each.effective_n, each.told, each.covered, each.ips / each.dr)
        texts = (
            f"{figure:.{digits}f}" for figure, digits in zip(figures, (0, 3, 3, 2), strict=True)
        )
        table.add_row(each.table, each.behaviour, each.reward, each.question, *texts)
    plants = Table("table", "plant", "share", "n", "flagged")
    for one in flagged:
        plants.add_row(one.table, one.plant, f"{one.share}", f"{one.n}", f"{one.flagged:.2f}")
    for each_table in (table, plants):
        Console(width=120).print(each_table)


def intervals_cover() -> Measured:
    """Coverage and error on every table, by every behaviour policy."""
    found = [
        cell
        for table in TABLES
        for place, behaviour in enumerate(BEHAVIOURS)
        for cell in cells(crowd(table), behaviour, N, RUNS, seed=place)
    ]
    show(found, [])
    by_table = {
        table: _mean([cell.covered for cell in found if cell.table == table and cell.told])
        for table in TABLES
    }
    better = [cell.ips / cell.dr for cell in found if cell.behaviour != KNOWING]
    knowing = [cell.ips / cell.dr for cell in found if cell.behaviour == KNOWING]
    sharp = [cell for cell in found if cell.effective_n >= GOOD_N]
    covered = ", ".join(f"{table} {share:.1%}" for table, share in by_table.items())
    return Measured(
        figures=f"{len(found)} cells of {RUNS} sets of {N:,}: {covered}, lowest cell "
        f"{min(cell.covered for cell in found):.1%}; IPS errs {min(better):.2f} to "
        f"{max(better):.1f} times as much as DR, median {np.median(better):.1f}, and "
        f"{min(knowing):.2f} to {max(knowing):.1f} where the logger knew the outcomes; of good "
        f"overlap at least {min(cell.told for cell in sharp):.1%} is not named poor",
        held=all(0.93 <= share <= 0.97 for share in by_table.values())
        and min(better) > 1.0
        and min(cell.told for cell in sharp) >= 0.95,
    )


def _mean(values: list[float]) -> float:
    return float(np.mean(values))


def poor_overlap_is_named() -> Measured:
    """Six plants at four shares and two sizes, on every table; regions are told as labels."""
    found = [
        each
        for place, table in enumerate(TABLES)
        for each in planted(crowd(table), PLANTED_RUNS, seed=place)
    ]
    show([], found)
    worst = min(found, key=lambda each: each.flagged)
    together = _mean([each.flagged for each in found])
    by_table = {
        table: _mean([each.flagged for each in found if each.table == table]) for table in TABLES
    }
    return Measured(
        figures=f"{len(found)} plants, {PLANTED_RUNS} logs each: {together:.1%} flagged, by table "
        f"{min(by_table.values()):.1%} at least; the hardest, {worst.plant} on {worst.share:.0%} "
        f"of {worst.table}, n = {worst.n:,}: {worst.flagged:.0%}",
        held=min(by_table.values()) >= 0.95,
    )
