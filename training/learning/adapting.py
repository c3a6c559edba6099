"""Adapting: new arms are taken into a policy that was trained without them, from few outcomes.

Nothing is trained anew: every arm that the policy has keeps its own arrays, and the booster
is the same file. An arm with too few outcomes is taken in with its prior.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np

from router.bundle import loader
from router.bundle.archive import pack_files, read_files
from router.bundle.booster import FlatBooster
from router.bundle.manifest import ACCURACY, GOLDEN
from router.bundle.trial import Golden
from router.errors import InvalidInput
from router.loading import learned
from router.policy.embedding import Embedder
from router.policy.evidence import PASSED_ON, EvidenceModel
from router.policy.features import Context
from router.policy.policy import Reader
from router.policy.resemblance import tier_by_price
from router.policy.spending import SpendingArrays
from router.types import Floats, Model
from training.benchmark.prediction import prediction_figures
from training.learning import evidence
from training.learning.learner import Forecast, Progress
from training.learning.new_arms import Arrays, NewArm, TrainedArms, taken_in, unknown
from training.learning.policy import quiet
from training.learning.spending import SpendingModel, finish
from training.learning.targets import Trained
from training.learning.threads import one_thread
from training.log.dataset import Dataset, Indices, Rows
from training.log.models import described
from training.log.splits import folds

LEAST_SCORED_ROWS = 5
"""An arm with fewer is predicted from its prior."""

FOLDS = 5
_BATCH_TEXTS = 2_048
_MOST_ROWS = 20_000


def opened(directory: Path, *, trusted: Mapping[str, bytes], embedder: Embedder) -> Trained:
    """The policy of a bundle's directory, verified as for serving. Raises BundleRefused."""
    files = read_files(directory)
    bundle = loader.load_archive(pack_files(files), trusted=trusted)
    manifest = bundle.manifest
    golden = Golden.parse(files[GOLDEN], len(manifest.feature_names))
    return Trained(
        booster_text=files[ACCURACY].decode(),
        arrays=bundle.arrays,
        features=learned(bundle, embedder).reader.features,
        embedder=embedder,
        arms=manifest.arms,
        models=manifest.models,
        golden_rows=golden.rows,
        golden_raw=golden.raw,
        summary=manifest.training,
    )


@one_thread()
def adapt(
    policy: Trained,
    log: Dataset,
    *,
    seed: int = 0,
    progress: Progress = quiet,
) -> Trained:
    """Takes the log's arms that the policy lacks into it, behind its own.

    Rows of arms that it has are not looked at. The same policy, log and seed give the same
    policy. Raises InvalidInput when the log has no new arm.
    """
    progress("embedding")
    asked = _asked(policy, log)
    progress("cost and latency")
    models = _models(policy.models, asked.log)
    spending = _spending(asked, models, seed)
    progress("new arms")
    arms = [_arm(policy, asked, models, place, seed) for place in range(len(asked.log.arms))]
    columns = [each.columns_ if each else unknown(policy.arrays) for each in arms]
    arrays = taken_in(policy.arrays, columns, spending)
    told = [_told(asked, place, each) for place, each in enumerate(arms)]
    before = policy.summary.get("adapted", [])
    return replace(
        policy,
        arrays={**arrays, **_evidence(policy.arrays, asked, arms).to_mapping()},
        arms=(*policy.arms, *asked.log.arms),
        models=models,
        summary={
            **policy.summary,
            "arms": len(policy.arms) + len(asked.log.arms),
            "adapted": [*before, *told],
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A log of new arms alone, and the context of each of its queries."""

    log: Dataset
    contexts: list[Context]

    @property
    def values(self) -> Floats:
        """The contexts' columns, shape (q, f)."""
        return np.stack([context.values for context in self.contexts])

    @property
    def counted_tokens(self) -> Floats:
        """Input tokens of each query as the embedder counts them, shape (q,)."""
        return np.array([context.input_tokens for context in self.contexts], np.float64)

    def fold(self, seed: int) -> Indices:
        """The fold of each query, shape (q,)."""
        return folds(self.log.queries, FOLDS, seed)

    def scored(self, place: int) -> Rows:
        """The scored rows of the arm at a place; of more than 20,000, so many spread over all."""
        found = np.flatnonzero((self.log.rows.arm == place) & self.log.scored)
        spread = np.linspace(0, max(len(found) - 1, 0), min(len(found), _MOST_ROWS))
        return self.log.rows.take(found[spread.round().astype(np.intp)])


def _asked(policy: Trained, log: Dataset) -> _Asked:
    known = {arm.key for arm in policy.arms}
    places = [place for place, arm in enumerate(log.arms) if arm.key not in known]
    if not places:
        raise InvalidInput(
            f"the policy has all {len(log.arms)} arms of the log; to learn more of arms that it "
            "has, train on their whole log",
            field="log",
        )
    rows = log.rows.take(np.isin(log.rows.arm, places))
    queries, query = np.unique(rows.query, return_inverse=True)
    new = replace(
        log,
        queries=tuple(log.queries[each] for each in queries.tolist()),
        arms=tuple(log.arms[place] for place in places),
        rows=replace(rows, query=query, arm=np.searchsorted(places, rows.arm)),
    )
    reader = Reader(features=policy.features, embedder=policy.embedder)
    contexts = [
        context
        for start in range(0, len(new.queries), _BATCH_TEXTS)
        for context in reader.read(new.queries[start : start + _BATCH_TEXTS])
    ]
    return _Asked(log=new, contexts=contexts)


def _models(trained: Sequence[Model], log: Dataset) -> tuple[Model, ...]:
    """The policy's models, then the log's others, of which their prices tell the tier."""
    known = {model.name for model in trained}
    new = [model for model in described(log) if model.name not in known]
    ranked = [replace(model, tier=tier_by_price(model, trained)) for model in new]
    return (*trained, *ranked)


def _arm(
    policy: Trained, asked: _Asked, models: Sequence[Model], place: int, seed: int
) -> NewArm | None:
    """The new arm at a place, learnt; None where it has too few scored rows."""
    rows = asked.scored(place)
    if len(rows) < LEAST_SCORED_ROWS:
        return None
    by_name, arm = {model.name: model for model in models}, asked.log.arms[place]
    trained = TrainedArms(
        arms=policy.arms,
        models=tuple(by_name[each.model] for each in policy.arms),
        booster=FlatBooster(lightgbm.Booster(model_str=policy.booster_text)),
        arrays=policy.arrays,
    )
    contexts = [asked.contexts[query] for query in rows.query.tolist()]
    return NewArm(trained, arm, by_name[arm.model]).fit(
        contexts, rows, asked.fold(seed)[rows.query]
    )


def _spending(asked: _Asked, models: Sequence[Model], seed: int) -> SpendingArrays:
    """What the new arms spend, their latency quantiles made valid out of fold."""
    rows, values, counted = asked.log.rows, asked.values, asked.counted_tokens
    forecast = Forecast.blank(len(values), len(asked.log.arms))
    fold = asked.fold(seed)
    for number in np.unique(fold):
        inside, others = np.flatnonzero(fold == number), rows.take(fold[rows.query] != number)
        model = SpendingModel(arms=asked.log.arms, models=models).fit(values, others, counted)
        spent = model.predict(values[inside], counted[inside])
        forecast.fill(inside, np.array(np.nan), spent)
    whole = SpendingModel(arms=asked.log.arms, models=models).fit(values, rows, counted)
    return whole.finished(finish(forecast.spending, rows))


def _evidence(arrays: Arrays, asked: _Asked, arms: Sequence[NewArm | None]) -> EvidenceModel:
    """The evidence model with the new arms behind the trained ones.

    What their surprises have to do with trained arms is not learnt: they pass on what any
    arm's does, and are like none of them.
    """
    trained = EvidenceModel.from_mapping(arrays)
    predicted = np.full((len(asked.log.queries), len(arms)), np.nan)
    for place, arm in enumerate(arms):
        if arm is not None:
            predicted[asked.scored(place).query, place] = arm.out_of_fold_
    new = evidence.fit(asked.log, predicted)
    own = np.concatenate((np.diag(trained.transfer), np.diag(new.transfer)))
    transfer = np.tile(PASSED_ON * own[:, None], len(own))
    likeness, split = np.eye(len(own)), len(trained.transfer)
    for whole, first, second in (
        (transfer, trained.transfer, new.transfer),
        (likeness, trained.likeness, new.likeness),
    ):
        whole[:split, :split], whole[split:, split:] = first, second
    joined = {
        name: np.concatenate((getattr(trained, name), getattr(new, name)))
        for name in ("knots", "scores", "expected", "spread")
    }
    return EvidenceModel(**joined, transfer=transfer, likeness=likeness)


def _told(asked: _Asked, place: int, arm: NewArm | None) -> Mapping[str, Any]:
    """What a new arm learnt from, and how well its rows were predicted before and after.

    Out of fold as to the new arm alone: of queries that the policy was trained on, it knows
    how others did, so that unseen queries are predicted somewhat less well.
    """
    rows, key = asked.scored(place), asked.log.arms[place].key
    told = {"arm": key, "scored_rows": len(rows), "dataset_digest": asked.log.digest}
    if arm is None:
        return {**told, "from": "prior", "least_scored_rows": LEAST_SCORED_ROWS}
    return {
        **told,
        "from": "outcomes",
        "prior_rows": arm.prior_rows,
        "mean_score": float(np.average(rows.score, weights=rows.weight)),
        "before": _figures(arm.before_, rows),
        "after": _figures(arm.out_of_fold_, rows),
    }


def _figures(predicted: Floats, rows: Rows) -> Mapping[str, Any]:
    found = prediction_figures(predicted, rows.score, rows.weight)
    mean = float(np.average(predicted, weights=rows.weight))
    return {"accuracy": mean, "brier": found.brier, "auc": found.auc, "ece": found.ece}
