"""New arms: how well one that a policy was not trained on is predicted from few outcomes.

Each arm in turn is left out of training, then taken in from some of its training outcomes,
and its predictions are judged on unseen queries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

import lightgbm
import numpy as np

from router.bundle.booster import FlatBooster
from router.policy.embedding import Embedder
from router.policy.features import Context
from router.policy.policy import Reader
from router.policy.resemblance import tier_by_price
from router.types import Floats, Model
from training.benchmark.bootstrap import Resamples, interval
from training.benchmark.prediction import prediction_figures
from training.benchmark.results import Foretold
from training.benchmark.splits import Split
from training.learning.calibration import calibrate
from training.learning.contexts import Encoded
from training.learning.learner import Learner
from training.learning.new_arms import NewArm, TrainedArms, unknown
from training.log.dataset import Dataset, Indices, Rows
from training.log.models import described
from training.log.splits import folds

ADAPTED, RETRAINED, CONSTANT = "adapted", "retrained", "constant"
SIZES = (0, 10, 25, 50, 100, 200, 500)
RETRAINED_SIZES = (50, 200)
"""Training anew takes its time; besides these it is done with all outcomes."""

MOST_ARMS = 10
DRAWS = 3
FOLDS = 5

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Left:
    """One arm left out: its outcomes to learn from, and those to be judged on."""

    log: Dataset
    arm: int
    models: tuple[Model, ...]
    rows: Rows
    test: tuple[str, ...]
    score: Floats

    @property
    def model(self) -> Model:
        """The arm's model, as one meets it who has its price alone."""
        return next(each for each in self.models if each.name == self.log.arms[self.arm].model)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a way made of one draw of so many outcomes: AUC, Brier, ECE and error of the mean."""

    arm: int
    way: str
    outcomes: int
    figures: tuple[float, ...]


def new_arms(
    split: Split, embedder: Embedder, *, resamples: int, seed: int, progress: Progress
) -> tuple[Foretold, ...]:
    """Leaves out arms one by one, at most 10; intervals are over arms, drawn anew whole.

    Progress is told `left_out` times. Empty where there is but one arm.
    """
    encoded = Encoded.of(split.train.queries, embedder)
    found: list[Judged] = []
    for arm in left_out(split):
        progress(f"without {split.train.arms[arm].key}")
        found += judged(split, arm, encoded, seed)
    return tuple(_gathered(found, resamples, seed))


def left_out(split: Split) -> Sequence[int]:
    """Which arms are left out, spread over their mean scores."""
    means = np.nan_to_num(np.nanmean(split.train.table("score"), axis=0))
    order = np.argsort(means, kind="stable")
    if len(order) < 2:
        return []
    chosen = np.linspace(0, len(order) - 1, min(len(order), MOST_ARMS)).round().astype(np.intp)
    return sorted(order[chosen].tolist())


def _left(split: Split, arm: int) -> _Left:
    train = split.train
    mine = train.scored & (train.rows.arm == arm)
    return _Left(
        log=train,
        arm=arm,
        models=_models(train, arm),
        rows=train.rows.take(mine),
        test=split.test.queries,
        score=split.test.table("score")[:, arm],
    )


def _models(train: Dataset, arm: int) -> tuple[Model, ...]:
    """The models as the other arms show them; of the arm's own, its price alone is known."""
    others = [place for place in range(len(train.arms)) if place != arm]
    rest = described(_only(train, others))
    own = next(each for each in described(train) if each.name == train.arms[arm].model)
    if own.name in {model.name for model in rest}:
        return rest
    return (*rest, replace(own, tier=tier_by_price(own, rest)))


def _only(train: Dataset, arms: Sequence[int]) -> Dataset:
    rows = train.rows.take(np.isin(train.rows.arm, arms))
    return replace(
        train,
        arms=tuple(train.arms[place] for place in arms),
        rows=replace(rows, arm=np.searchsorted(arms, rows.arm)),
    )


def judged(split: Split, arm: int, encoded: Encoded, seed: int) -> Iterator[Judged]:
    """Leaves one arm out; `encoded` are the training queries."""
    left = _left(split, arm)
    rest = _only(left.log, [place for place in range(len(left.log.arms)) if place != left.arm])
    taught = _taught(left, rest, encoded, seed)
    for size, draw in _draws(left, seed):
        yield _figured(left, ADAPTED, size, taught.adapted(left, draw))
        yield _figured(left, CONSTANT, size, _constant(left, rest, draw))
    for size in (*RETRAINED_SIZES, len(left.rows)):
        if size <= len(left.rows):
            draw = _draw(left, size, np.random.default_rng(seed))
            yield _figured(
                left, RETRAINED, _shown(left, size), _retrained(left, draw, encoded, seed)
            )


def _quiet(_step: str) -> None:
    """Progress that nobody watches."""


def _draws(left: _Left, seed: int) -> Iterator[tuple[int, Rows]]:
    """Some draws of each size; fewer outcomes are a part of more of the same draw."""
    every = len(left.rows)
    for number in range(DRAWS):
        for size in SIZES:
            if size < every and (size or not number):
                yield size, _draw(left, size, np.random.default_rng(seed + number))
    yield _ALL, left.rows


_ALL = -1
"""Stands for all outcomes that there are, whose number differs from arm to arm."""


def _draw(left: _Left, size: int, rng: np.random.Generator) -> Rows:
    return left.rows.take(rng.permutation(len(left.rows))[:size])


def _shown(left: _Left, size: int) -> int:
    return _ALL if size == len(left.rows) else size


def _taught(left: _Left, rest: Dataset, encoded: Encoded, seed: int) -> _Taught:
    fold = folds(left.log.queries, FOLDS, seed)
    learner = Learner(arms=rest.arms, models=left.models, seed=seed)
    learner.fit(encoded, rest.rows, fold, _quiet)
    reader = Reader(features=learner.projection_.spec_, embedder=encoded.embedder)
    return _Taught(
        trained=_trained(learner, rest, left.models),
        fold=fold,
        known=reader.read(left.log.queries),
        unseen=reader.read(left.test),
    )


def _trained(learner: Learner, rest: Dataset, models: Sequence[Model]) -> TrainedArms:
    accuracy, by_name = learner.accuracy_, {model.name: model for model in models}
    return TrainedArms(
        arms=rest.arms,
        models=tuple(by_name[arm.model] for arm in rest.arms),
        booster=FlatBooster(lightgbm.Booster(model_str=accuracy.head_.booster_.model_to_string())),
        arrays={
            "mean_accuracy": accuracy.base_.table.mean_accuracy_,
            "mean_cost_usd": accuracy.base_.table.mean_cost_usd_,
            **accuracy.arrays().to_mapping(),
            **calibrate(learner.out_of_fold_.raw, rest.rows, rest.arms).to_mapping(),
            **learner.spending_.arrays_.to_mapping(),
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taught:
    """What was learnt without the arm, with the contexts and folds of all queries."""

    trained: TrainedArms
    fold: Indices
    known: Sequence[Context]
    unseen: Sequence[Context]

    def adapted(self, left: _Left, draw: Rows) -> Floats:
        """What is predicted for the unseen queries once the draw was learnt from."""
        new = NewArm(self.trained, left.log.arms[left.arm], left.model)
        if not len(draw):
            return new.predict(self.unseen, unknown(self.trained.arrays))
        contexts = [self.known[query] for query in draw.query.tolist()]
        return new.fit(contexts, draw, self.fold[draw.query]).predict(self.unseen)


def _constant(left: _Left, rest: Dataset, draw: Rows) -> Floats:
    """The mean score of the draw; of all other arms' rows where it is empty."""
    rows = draw if len(draw) else rest.rows.take(rest.scored)
    return np.full(len(left.score), np.average(rows.score, weights=rows.weight))


def _retrained(left: _Left, draw: Rows, encoded: Encoded, seed: int) -> Floats:
    """What a policy predicts that was trained anew on all other arms' rows and the draw."""
    whole = replace(left.log, rows=_together(left, draw))
    learner = Learner(arms=whole.arms, models=left.models, seed=seed)
    learner.fit(encoded, whole.rows, folds(whole.queries, FOLDS, seed), _quiet)
    calibration = calibrate(learner.out_of_fold_.raw, whole.rows, whole.arms)
    unseen = Encoded.of(left.test, encoded.embedder)
    raw = learner.predict(unseen, np.ones(len(left.test), bool)).raw
    return calibration(raw)[0][:, left.arm]


def _together(left: _Left, draw: Rows) -> Rows:
    others = left.log.rows.take(left.log.rows.arm != left.arm)
    return Rows(
        **{
            item.name: np.concatenate((getattr(others, item.name), getattr(draw, item.name)))
            for item in fields(Rows)
        }
    )


def _figured(left: _Left, way: str, size: int, predicted: Floats) -> Judged:
    found = prediction_figures(predicted, left.score)
    away = abs(float(predicted.mean() - left.score.mean()))
    auc = math.nan if found.auc is None else found.auc
    return Judged(arm=left.arm, way=way, outcomes=size, figures=(auc, found.brier, found.ece, away))


def _gathered(found: Sequence[Judged], resamples: int, seed: int) -> Iterator[Foretold]:
    """Means over arms of the means over draws; ways and sizes that every arm has."""
    arms = sorted({each.arm for each in found})
    drawn = Resamples(len(arms), resamples, np.random.default_rng(seed)) if arms else None
    for way in (ADAPTED, RETRAINED, CONSTANT):
        for size in (*SIZES, _ALL):
            mine = [each for each in found if (each.way, each.outcomes) == (way, size)]
            by_arm = [[each.figures for each in mine if each.arm == arm] for arm in arms]
            if drawn is None or not all(by_arm):
                continue
            means = drawn.means(np.array([np.mean(draws, axis=0) for draws in by_arm]).T)
            auc, brier, ece, away = (interval(column) for column in means.T)
            yield Foretold(
                way=way,
                outcomes=None if size == _ALL else size,
                arms=len(arms),
                auc=auc,
                brier=brier,
                ece=ece,
                mean_error=away,
            )
