"""The gate holds: better candidates pass, equal ones seldom, sabotaged ones do not.

Per table, a reward model is fitted to one half of the queries; the other half, which it has
not seen, is the population whose every outcome is known. Candidates are planted in logs of
an exploring incumbent that are drawn from it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest

from tests.kit.contests import SABOTAGED, Kind, crowd, plant
from tests.kit.offpolicy import People, people
from tests.kit.shared_data import SHARED_DATA
from tests.promises import Measured
from training.benchmark.splits import held_out
from training.gate.judge import judge
from training.gate.verdict import Verdict
from training.log.dataset import Dataset
from training.log.sources import read

TABLES = ("cascades", "strategies", "routellm", "mmlu_pro")
N = 10_000
VALUES = (5.0, 20.0)
"""What a correct answer is worth, in mean costs of the most accurate arm."""

PLANTED = {
    Kind.BETTER: 60,
    Kind.EQUAL: 20,
    Kind.BELOW: 10,
    Kind.SHUFFLED: 8,
    Kind.STALE: 8,
    Kind.LEAKY: 8,
    Kind.MISCALIBRATED: 8,
    Kind.RUINED: 16,
}
"""138 candidates per table and value, 1,104 in all."""

SEED, SPLIT_SEED = 20261122, 2611
"""No level and no plant was chosen by these: seeds of this measurement alone."""

LEAST_AHEAD, MOST_AHEAD = 2.0, 4.0
"""Points of utility by which better candidates are ahead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What became of one planted candidate."""

    table: str
    kind: Kind
    ahead: float
    above_constant: float
    verdict: Verdict


@cache
def _halves(table: str) -> tuple[People, tuple[str, ...]]:
    split = held_out(
        Dataset.from_table(read(SHARED_DATA / f"{table}.parquet").table), 0.5, SPLIT_SEED
    )
    return people(table, split), split.test.queries


def judged(table: str, times: float, planted: Mapping[Kind, int], seed: int) -> Iterator[Judged]:
    """What the gate says of so many candidates of each kind."""
    gathered, rng = crowd(*_halves(table), times), np.random.default_rng(seed)
    for kind, count in planted.items():
        for place in range(count):
            ahead = LEAST_AHEAD + (MOST_AHEAD - LEAST_AHEAD) * place / max(count - 1, 1)
            made = plant(gathered, kind, N, ahead, rng)
            yield Judged(
                table=table,
                kind=kind,
                ahead=made.ahead,
                above_constant=made.above_constant,
                verdict=judge(made.contest, made.checks, seed=place),
            )


def show(found: Sequence[Judged]) -> None:
    """Prints what became of every kind on each table, and which conditions failed."""
    shown = Table("table", "kind", "promoted", "points ahead", "failed")
    for table, kind in dict.fromkeys((each.table, each.kind) for each in found):
        mine = [each for each in found if (each.table, each.kind) == (table, kind)]
        failed = Counter(one.name for each in mine for one in each.verdict.failed)
        told = ", ".join(f"{name} {count}" for name, count in failed.most_common())
        ahead = [each.ahead for each in mine]
        promoted = sum(each.verdict.promote for each in mine)
        span = f"{min(ahead):.1f} to {max(ahead):.1f}"
        shown.add_row(table, kind, f"{promoted}/{len(mine)}", span, told)
    Console(width=160).print(shown)


def _share(found: Sequence[Judged]) -> tuple[float, str]:
    """The share that was promoted, with its exact 95 % interval in words."""
    promoted = sum(each.verdict.promote for each in found)
    interval = binomtest(promoted, len(found)).proportion_ci()
    share = promoted / len(found)
    return share, f"{promoted}/{len(found)} ({interval.low:.1%} to {interval.high:.1%})"


def _passed(found: Sequence[Judged], table: str, kinds: Sequence[Kind]) -> float:
    """The share of candidates of some kinds on a table that was promoted."""
    return _share([one for one in found if one.table == table and one.kind in kinds])[0]


def the_gate_holds() -> Measured:
    """Plants candidates on every table at both values."""
    found = [
        each
        for place, table in enumerate(TABLES)
        for times in VALUES
        for each in judged(table, times, PLANTED, SEED + place)
    ]
    show(found)
    sabotaged, said = _share([each for each in found if each.kind in SABOTAGED])
    better, told = _share([each for each in found if each.kind is Kind.BETTER])
    power = ", ".join(f"{table} {_passed(found, table, (Kind.BETTER,)):.0%}" for table in TABLES)
    harm = ", ".join(f"{table} {_passed(found, table, SABOTAGED):.1%}" for table in TABLES)
    equal, same = _share([each for each in found if each.kind is Kind.EQUAL])
    below, sunk = _share([each for each in found if each.above_constant < 0.0])
    return Measured(
        figures=f"{len(found)} candidates in logs of {N:,} on {len(TABLES)} tables: promoted of "
        f"sabotaged ones {said}, by table {harm}, of better ones {told}, by table {power}, "
        f"of equal ones {same}, of all below the best constant {sunk}",
        held=sabotaged <= 0.01 and better >= 0.8 and equal <= 0.05 and not below,
    )
