"""The benchmark as a whole: splits -> trials of all ways -> figures with paired intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from router.policy.embedding import Embedder
from router.types import Model
from training.benchmark import constants, rivals
from training.benchmark.ablation import parts
from training.benchmark.bootstrap import Resamples
from training.benchmark.encoding import Encoder
from training.benchmark.judging import REFERENCES
from training.benchmark.leadline import Continuing, OneAttempt, Teacher
from training.benchmark.reckoning import Field, Without, reckon
from training.benchmark.results import Results, Setup
from training.benchmark.splits import Split
from training.benchmark.trial import Clock, Limited, Progress, run
from training.benchmark.ways import Way
from training.learning.energy import EnergyRates
from training.learning.policy import learn
from training.learning.threads import one_thread

LEADLINE = ("leadline", "leadline_continuation")
WAYS = (
    *("best_constant", "mixture", "uniform", "knn", "linear", "mlp", "lightgbm"),
    *LEADLINE,
    "oracle",
)
LEARNERS = ("knn", "linear", *LEADLINE)
"""The ways of the learning curve."""

_FIRST_QUERIES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to benchmark. The references take part whatever `ways` names.

    `how` says in words where the splits come from; `models` are the catalog's, for their
    energy alone.
    """

    ways: tuple[str, ...] = WAYS
    learning_curve: bool = False
    ablation: bool = False
    resamples: int = 1_000
    seed: int = 0
    how: str = "two logs"
    models: tuple[Model, ...] = ()


@one_thread()
def benchmark(
    splits: Sequence[Split], field: Field, plan: Plan, *, progress: Progress, clock: Clock
) -> Results:
    """Runs every way on every split and judges them on all test queries together.

    The same splits and plan give the same figures, but for the seconds. Progress is told
    `steps` times. Raises InvalidInput when a log cannot teach.
    """
    trials, importance = [], []
    for number, split in enumerate(splits, start=1):
        before = f"split {number}: " if len(splits) > 1 else ""
        trials.append(run(split, field.all, _prefixed(progress, before), clock))
        importance.append(_importance(field.ways))
    progress("intervals")
    rng = np.random.default_rng(plan.seed)
    queries = sum(len(trial.score) for trial in trials)
    resamples = Resamples(queries, plan.resamples, rng)
    rates = EnergyRates.of(splits[0].test.arms, plan.models)
    return reckon(trials, field, resamples, _setup(plan, splits), _mean(importance), rates=rates)


def steps(splits: Sequence[Split], field: Field) -> int:
    """How often a benchmark tells its progress."""
    return len(splits) * len(field.all) + 1


def entered(splits: Sequence[Split], plan: Plan, embedder: Embedder) -> Field:
    """The ways that a plan enters; Leadline is trained once for all ways of using it."""
    encoder, learning = Encoder(embedder), partial(learn, embedder=embedder, seed=plan.seed)
    teacher = Teacher(learning)
    makers = _makers(encoder, teacher, plan.seed)
    smallest = min(len(split.train.queries) for split in splits)
    return Field(
        ways=[makers[name]() for name in WAYS if name in REFERENCES or name in plan.ways],
        limited=[
            Limited(makers[name](), size, plan.seed)
            for size in (sizes(smallest) if plan.learning_curve else ())
            for name in LEARNERS
            if name in plan.ways
        ],
        without=[
            each
            for part, without in (parts(learning, splits[0].train) if plan.ablation else {}).items()
            for each in _without(part, Teacher(without))
        ],
    )


def _makers(encoder: Encoder, teacher: Teacher, seed: int) -> Mapping[str, Callable[[], Way]]:
    return {
        "best_constant": constants.BestConstant,
        "mixture": constants.Mixture,
        "uniform": constants.Uniform,
        "knn": lambda: rivals.knn(encoder, seed),
        "linear": lambda: rivals.linear(encoder),
        "mlp": lambda: rivals.mlp(encoder, seed),
        "lightgbm": lambda: rivals.trees(encoder, seed),
        "leadline": lambda: OneAttempt(teacher),
        "leadline_continuation": lambda: Continuing(teacher),
        "oracle": constants.Oracle,
    }


def _without(part: str, teacher: Teacher) -> list[Without]:
    one, more = (f"{name} without {part}" for name in LEADLINE)
    return [
        Without(part=part, whole=LEADLINE[0], way=OneAttempt(teacher, one)),
        Without(part=part, whole=LEADLINE[1], way=Continuing(teacher, more)),
    ]


def sizes(queries: int) -> list[int]:
    """100, 200, 400 ... below the number of training queries."""
    found = [_FIRST_QUERIES << step for step in range(24)]
    return [size for size in found if size < queries]


def _prefixed(progress: Progress, before: str) -> Progress:
    return lambda name: progress(before + name)


def _importance(ways: Sequence[Way]) -> Mapping[str, float]:
    taught = [way.taught_ for way in ways if isinstance(way, OneAttempt | Continuing)]
    return taught[0].importance if taught else {}


def _mean(importance: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    """Mean importance over the splits, greatest first."""
    names = {name for each in importance for name in each}
    means = {
        name: sum(each.get(name, 0.0) for each in importance) / len(importance) for name in names
    }
    return dict(sorted(means.items(), key=lambda item: (-item[1], item[0])))


def _setup(plan: Plan, splits: Sequence[Split]) -> Setup:
    return Setup(
        how=plan.how,
        seed=plan.seed,
        resamples=plan.resamples,
        train_queries=round(sum(len(each.train.queries) for each in splits) / len(splits)),
        test_queries=sum(len(each.test.queries) for each in splits),
        left_out={
            "test queries that training has": sum(each.seen for each in splits),
            "test queries that lack an arm's score or cost": sum(each.partial for each in splits),
        },
        left_out_arms=tuple(sorted({arm for each in splits for arm in each.left_out_arms})),
    )
