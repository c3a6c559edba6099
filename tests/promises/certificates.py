"""The promise holds: how often a certificate is false, what certainty costs, how sharp it is.

Per table, the policy is trained on one half of the queries; the other half is the
population, whose mean score under any value of a correct answer is the truth. Samples are
drawn from it with replacement and certified, again and again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import binom

from router.bundle.embedder import load_embedder
from router.policy.hedging import Sample, passed
from router.policy.walking import cheapest, passes, starts
from router.types import Floats
from tests.kit import bounds
from tests.kit.bound import bound
from tests.kit.populations import FULL, INFORMED, UNIFORM, Population, populated, samples
from tests.kit.shared_data import SHARED_DATA
from tests.promises import Measured
from training.benchmark.splits import held_out
from training.learning.policy import learn
from training.log.dataset import Dataset, Indices
from training.log.sources import read

TABLES = ("cascades", "strategies", "routellm", "mmlu_pro")
SIZES = (300, 1_000, 3_000)
RUNS = 500
LEVEL = 0.05
HOW = (FULL, UNIFORM, INFORMED)
SMALL_POOL = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What `runs` certificates of one floor brought.

    `false` of them have a truth below the floor, `none` are not certified; `cost` is the
    certified values' mean cost over the least that meets the floor in truth.
    """

    table: str
    how: str
    n: int
    floor: float
    runs: int
    false: float
    none: float
    cost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Margins:
    """Mean distances from the truth down to lower bounds, from the same samples of n."""

    table: str
    n: int
    controlled: float
    small_pool: float
    plain: float
    growth_bets: float
    hoeffding_bentkus: float
    empirical_bernstein: float


def population(table: str) -> Population:
    """A table of real outcomes, with a policy that is trained on one half of it."""
    split = held_out(Dataset.from_table(read(SHARED_DATA / f"{table}.parquet").table), 0.5, 0)
    return populated(table, split, bound(learn(split.train, embedder=load_embedder())))


def certified(
    people: Population, how: str, n: int, floors: Floats, *, runs: int, seed: int
) -> Iterator[Cell]:
    """Certifies each floor from many samples of n, in one way of logging them."""
    found: list[list[int]] = [[] for _ in floors]
    for sample in samples(people, how, n, runs, np.random.default_rng(seed)):
        for mine, floor in zip(found, floors, strict=True):
            begins = starts(people.expected, float(floor), len(people.accuracy))
            passing = passes(sample, floor, LEVEL, begins)
            runs_apart = passing.reshape(len(passing), -1, len(people.accuracy))
            mine.extend(cheapest(runs_apart, begins).tolist())
    for places, floor in zip(found, floors, strict=True):
        yield _cell(people, how, n, float(floor), np.array(places))


def _cell(people: Population, how: str, n: int, floor: float, places: Indices) -> Cell:
    some = places[places < len(people.accuracy)]
    false = (people.accuracy[some] < floor).sum() / len(places)
    cost = people.cost_usd[some].mean() / people.hindsight_usd(floor) if len(some) else np.nan
    return Cell(
        table=people.name,
        how=how,
        n=n,
        floor=floor,
        runs=len(places),
        false=float(false),
        none=1.0 - len(some) / len(places),
        cost=float(cost),
    )


def margins(people: Population, n: int, *, runs: int, seed: int) -> Margins:
    """How far below the truth bounds are at the dearest value, from the same samples."""
    rng, truth = np.random.default_rng(seed), people.accuracy[-1]
    score = people.made.mean(people.score)[:, -1]
    expected = people.made.mean(people.made.accuracy)[:, -1]
    some = rng.integers(0, len(score), (n, runs))
    pool = expected[rng.integers(0, len(score), (SMALL_POOL, n, runs))].mean(axis=0)
    values = score[some]
    found = {
        "controlled": _bounds(Sample(values=values, controls=expected[some] - expected.mean())),
        "small_pool": _bounds(Sample(values=values, controls=expected[some] - pool)),
        "plain": _bounds(Sample(values=values)),
        "growth_bets": bounds.growth_bets(values, LEVEL),
        "hoeffding_bentkus": bounds.hoeffding_bentkus(values, LEVEL),
        "empirical_bernstein": bounds.empirical_bernstein(values, LEVEL),
    }
    means = {name: float(truth - each.mean()) for name, each in found.items()}
    return Margins(table=people.name, n=n, **means)


def _bounds(sample: Sample) -> Floats:
    return bounds.boundary(lambda floor: passed(sample, floor, LEVEL), sample.values.shape[1])


@dataclass(frozen=True, kw_only=True)
class Found:
    """All that was measured."""

    cells: tuple[Cell, ...]
    margins: tuple[Margins, ...]

    @property
    def most_false(self) -> float:
        """The share of false certificates that chance allows where the truth is at the level.

        Of as many cells, one in a hundred measurements has a worse one.
        """
        runs = min(cell.runs for cell in self.cells)
        return float(binom.ppf(1.0 - 0.01 / len(self.cells), runs, LEVEL)) / runs

    @property
    def worst(self) -> Cell:
        """The cell with the most false certificates."""
        return max(self.cells, key=lambda cell: cell.false)

    @property
    def shorter(self) -> Mapping[str, float]:
        """By table: by how much of the plain margin predictions shorten it, over all n."""
        tables = dict.fromkeys(each.table for each in self.margins)
        return {
            table: 1.0
            - sum(each.controlled for each in self.margins if each.table == table)
            / sum(each.plain for each in self.margins if each.table == table)
            for table in tables
        }

    @property
    def held(self) -> bool:
        """Whether certificates are false no more often than stated, and predictions help."""
        return self.worst.false <= self.most_false and min(self.shorter.values()) > 0.0

    def mean(self, how: str, n: int, figure: str) -> float:
        """A figure's mean over tables and floors."""
        some = [getattr(cell, figure) for cell in self.cells if (cell.how, cell.n) == (how, n)]
        return float(np.nanmean(some))

    def price(self, how: str) -> str:
        """What certainty costs, at each n."""
        return ", ".join(
            f"n = {n:,}: {self.mean(how, n, 'cost'):.2f} and {self.mean(how, n, 'none'):.0%}"
            for n in sorted({cell.n for cell in self.cells})
        )

    def __str__(self) -> str:
        worst = self.worst
        prices = "; ".join(f"{how}, {self.price(how)}" for how in self.ways)
        shorter = ", ".join(f"{table} {share:.1%}" for table, share in self.shorter.items())
        return (
            f"false at most {worst.false:.1%} ({worst.table}, {worst.how}, n = {worst.n:,}, floor "
            f"{worst.floor:.3f}; chance allows {self.most_false:.1%} in one of {len(self.cells)}); "
            f"cost over hindsight and share not certified: {prices}; "
            f"predictions shorten the margin by {shorter}"
        )

    @property
    def ways(self) -> Sequence[str]:
        """How the samples were logged."""
        return tuple(dict.fromkeys(cell.how for cell in self.cells))


@cache
def found() -> Found:
    """Everything at full size."""
    cells: list[Cell] = []
    widths: list[Margins] = []
    for table in TABLES:
        people = population(table)
        for n in SIZES:
            for how in HOW:
                cells += certified(people, how, n, people.floors, runs=RUNS, seed=n)
            widths.append(margins(people, n, runs=RUNS, seed=n))
    return Found(cells=tuple(cells), margins=tuple(widths))


def the_promise_holds() -> Measured:
    """Prints two small tables, and says whether the promise holds."""
    measured = found()
    show(measured)
    return Measured(figures=str(measured), held=measured.held)


def show(measured: Found) -> None:
    """Prints what was measured."""
    console = Console()
    cells = Table("table", "log", "n", "false, worst", "false", "not certified", "cost / hindsight")
    for table, how, n in dict.fromkeys((c.table, c.how, c.n) for c in measured.cells):
        some = [c for c in measured.cells if (c.table, c.how, c.n) == (table, how, n)]
        false, none, cost = (
            [getattr(cell, name) for cell in some] for name in ("false", "none", "cost")
        )
        known = [each for each in cost if not np.isnan(each)]
        cells.add_row(
            table,
            how,
            f"{n:,}",
            f"{max(false):.3f}",
            f"{np.mean(false):.3f}",
            " ".join(f"{each:.2f}" for each in none),
            f"{np.mean(known):.2f}" if known else "-",
        )
    console.print(cells)
    names = [item.name for item in fields(Margins)]
    widths = Table(*names)
    for each in measured.margins:
        figures = [getattr(each, name) for name in names[2:]]
        widths.add_row(each.table, f"{each.n:,}", *(f"{figure:.4f}" for figure in figures))
    console.print(widths)


if __name__ == "__main__":
    print(the_promise_holds())
