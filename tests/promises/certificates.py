"""The promise holds: how often a certificate is false, what certainty costs, how sharp it is.

Per table, the policy is trained on one half of the queries; the other half is the
population, whose mean score under any value of a correct answer is the truth. Samples are
drawn from it with replacement and certified, again and again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, partial

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import binom

from router.bundle.embedder import load_embedder
from router.policy.certificate import cheapest
from router.policy.hedging import Sample, lower_bound, passed
from router.policy.policy import Policy
from router.slo import Slo
from router.types import Floats
from tests.kit import bandits, bounds
from tests.kit.bound import bound
from tests.kit.shared_data import SHARED_DATA
from tests.promises import Measured
from training.benchmark.splits import Split, held_out
from training.certifying import sample_of
from training.dataset import Dataset, Indices
from training.decided import Decided, decided
from training.job import train
from training.scored import Log, Scored
from training.sources import read

TABLES = ("cascades", "strategies", "routellm", "mmlu_pro")
SIZES = (300, 1_000, 3_000)
RUNS, MARGIN_RUNS, FLOORS = 500, 100, 4
LEVEL = 0.05
FULL, UNIFORM, INFORMED = "full", "bandit, uniform", "bandit, informed"
HOW = (FULL, UNIFORM, INFORMED)

SMALL_POOL = 4

_MOST_CELLS = 2_000_000
_SLO = Slo(min_accuracy=0.5)


@dataclass(frozen=True, kw_only=True)
class Population:
    """The half that the policy has not seen: its scores and costs (q, a), and its decisions.

    `accuracy` and `cost_usd` (k,) are the truth at each value; `odds` are those of loggers.
    """

    name: str
    made: Decided
    score: Floats
    accuracy: Floats
    cost_usd: Floats
    odds: Mapping[str, Floats]

    @property
    def best_constant(self) -> float:
        """The mean score of the most accurate arm."""
        return float(self.score.mean(axis=0).max())

    @property
    def floors(self) -> Floats:
        """From 0.70, or below what can be reached, to 1 % below the best constant."""
        most = 0.99 * self.best_constant
        return np.linspace(min(0.7, 0.94 * most), most, FLOORS)

    def hindsight_usd(self, floor: float) -> float:
        """The least mean cost of a value that truly meets the floor."""
        enough = self.accuracy >= floor
        return float(self.cost_usd[enough].min()) if enough.any() else np.nan


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
    return populated(table, split, bound(train(split.train, embedder=load_embedder())))


def populated(name: str, split: Split, policy: Policy) -> Population:
    """The split's other half as the population."""
    assert policy.tradeoff is not None
    index = {arm.key: place for place, arm in enumerate(split.test.arms)}
    place = [index[arm.key] for arm in policy.arms]
    score, cost_usd = (split.test.table(each)[:, place] for each in ("score", "cost_usd"))
    made = decided(policy, split.test.queries, Slo(min_accuracy=0.5), policy.tradeoff.value_usd)
    odds = bandits.policies(split.test)
    return Population(
        name=name,
        made=made,
        score=score,
        accuracy=made.mean(score).mean(axis=0),
        cost_usd=made.mean(cost_usd).mean(axis=0),
        odds={UNIFORM: odds["uniform"][:, place], INFORMED: odds["informed"][:, place]},
    )


def certified(
    people: Population, how: str, n: int, floors: Floats, *, runs: int, seed: int
) -> Iterator[Cell]:
    """Certifies each floor from many samples of n, in one way of logging them."""
    found: list[list[int]] = [[] for _ in floors]
    for sample in _samples(people, how, n, runs, np.random.default_rng(seed)):
        for mine, floor in zip(found, floors, strict=True):
            passing = passed(sample, floor, LEVEL).reshape(-1, len(people.accuracy))
            mine.extend(cheapest(passing).tolist())
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


def _samples(
    people: Population, how: str, n: int, runs: int, rng: np.random.Generator
) -> Iterator[Sample]:
    """Samples of n under all values, many side by side: k columns each."""
    at_once = max(1, _MOST_CELLS // (n * len(people.accuracy)))
    draw = partial(_logged, people, people.odds[how]) if how in people.odds else _drawn(people)
    mean = people.made.mean(people.made.accuracy).mean(axis=0)
    for start in range(0, runs, at_once):
        drawn = [draw(n, rng) for _ in range(min(at_once, runs - start))]
        log = replace(drawn[0][0], propensity=np.concatenate([log.propensity for log, _ in drawn]))
        many = _side_by_side([scored for _, scored in drawn])
        groups = np.tile(mean, len(drawn)), n
        yield sample_of(many, log, _SLO, None if how in people.odds else groups)[0]


def _drawn(people: Population) -> Callable[[int, np.random.Generator], tuple[Log, Scored]]:
    """Draws queries with the scores of every arm."""
    nothing = np.empty(0)
    log = Log(
        query=np.empty(0, np.intp),
        arm=np.empty(0, np.intp),
        score=nothing,
        propensity=nothing,
        seen=np.ones(people.score.shape[1], bool),
        table=people.score,
    )
    every = log.scored(people.made)
    return lambda n, rng: (log, every.take(rng.integers(0, len(every), n)))


def _logged(
    people: Population, odds: Floats, n: int, rng: np.random.Generator
) -> tuple[Log, Scored]:
    """Draws queries with the score of the one arm that the logger picked."""
    query = rng.integers(0, len(odds), n)
    arm = (odds[query].cumsum(axis=1) > rng.random(n)[:, None]).argmax(axis=1)
    log = Log(
        query=query,
        arm=arm,
        score=people.score[query, arm],
        propensity=odds[query, arm],
        seen=np.ones(odds.shape[1], bool),
    )
    return log, log.scored(people.made)


def _side_by_side(scored: Sequence[Scored]) -> Scored:
    names = ("value", "own", "expected", "weight")
    return Scored(
        query=scored[0].query,
        **{
            name: np.concatenate([getattr(each, name) for each in scored], axis=1) for name in names
        },
    )


def margins(people: Population, n: int, *, runs: int, seed: int) -> Margins:
    """How far below the truth bounds are at the dearest value, from the same samples."""
    rng, truth = np.random.default_rng(seed), people.accuracy[-1]
    score = people.made.mean(people.score)[:, -1:]
    expected = people.made.mean(people.made.accuracy)[:, -1:]
    found = []
    for _ in range(runs):
        some = rng.integers(0, len(score), n)
        pool = expected[rng.integers(0, len(score), (n, SMALL_POOL))].mean(axis=1)
        values = score[some]
        samples = (
            Sample(values=values, controls=expected[some] - expected.mean()),
            Sample(values=values, controls=expected[some] - pool),
            Sample(values=values),
        )
        ours = [lower_bound(sample, LEVEL) for sample in samples]
        others = (bounds.growth_bets, bounds.hoeffding_bentkus, bounds.empirical_bernstein)
        found.append([*ours, *(other(values[:, 0], LEVEL) for other in others)])
    names = [item.name for item in fields(Margins)][2:]
    means = truth - np.mean(found, axis=0)
    return Margins(table=people.name, n=n, **dict(zip(names, means.tolist(), strict=True)))


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

    def __str__(self) -> str:
        worst = self.worst
        cost = ", ".join(
            f"n = {n:,}: {self.mean(FULL, n, 'cost'):.2f} and {self.mean(FULL, n, 'none'):.0%}"
            for n in sorted({cell.n for cell in self.cells})
        )
        shorter = ", ".join(f"{table} {share:.1%}" for table, share in self.shorter.items())
        return (
            f"false at most {worst.false:.1%} ({worst.table}, {worst.how}, n = {worst.n:,}, floor "
            f"{worst.floor:.3f}; chance allows {self.most_false:.1%} in one of {len(self.cells)}); "
            f"cost over hindsight and share not certified: {cost}; margin shorter by {shorter}"
        )


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
            widths.append(margins(people, n, runs=MARGIN_RUNS, seed=n))
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
