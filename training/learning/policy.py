"""Learning: from a dataset to a policy, and nothing else.

dataset -> split -> models, out of fold -> calibration, trade-offs, evidence -> held-out figures
        -> the same on all of it -> bundle
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa

from router.bundle.embedder import describe_embedder
from router.bundle.manifest import Manifest
from router.bundle.signing import SigningKey
from router.bundle.writer import write
from router.policy.embedding import Embedder
from router.types import Mask, Model
from training.evaluation.held_out import prediction_figures
from training.learning.contexts import Encoded
from training.learning.learner import Learner, Progress
from training.learning.recipe import WHOLE, Recipe
from training.learning.targets import Adjusted, Trained, adjust, check, figures, trained
from training.learning.threads import one_thread
from training.log.dataset import Dataset
from training.log.models import described, known
from training.log.samples import Samples
from training.log.sides import Sides
from training.log.splits import folds, held_out

FOLDS = 5


def quiet(_step: str) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A dataset with the queries (q,) that are held out of it, and how they were chosen."""

    dataset: Dataset
    held: Mask
    figures: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, table: pa.Table, sides: Sides) -> Self:
        """The rows of a log's table that stand on either side."""
        dataset = Dataset.from_table(table.filter(pa.array(sides.kept | sides.held)))
        texts = set(table["query"].filter(pa.array(sides.held)).unique().to_pylist())
        held = np.array([text in texts for text in dataset.queries], bool)
        return cls(dataset=dataset, held=held, figures={"split": sides.figures})


@dataclass(kw_only=True)
class Learning:
    """What all fits of one policy share; the same inputs give the same policy, bit for bit."""

    embedder: Embedder
    catalog_models: Sequence[Model] | None = None
    seed: int = 0
    recipe: Recipe = WHOLE
    samples: Samples | None = None
    progress: Progress = quiet

    def __post_init__(self) -> None:
        self._known: tuple[tuple[str, ...], Encoded] | None = None

    @one_thread()
    def judged(self, part: Part) -> Trained:
        """A policy that has seen no held-out query; its figures are what it reaches on them."""
        dataset = self._weighed(part.dataset)
        kept = replace(dataset, rows=dataset.rows.take(~part.held[dataset.rows.query]))
        encoded, learner = self._fitted(kept)
        self.progress("held-out queries")
        adjusted = self._adjusted(kept, learner)
        forecast = learner.predict(encoded, part.held)
        seen = figures(dataset, part.held, forecast, adjusted, learner.models)
        made = trained(kept, encoded, learner, adjusted, {**seen, **part.figures})
        return replace(
            made, summary={**made.summary, "out_of_fold": foretold(learner, adjusted, kept)}
        )

    @one_thread()
    def final(self, dataset: Dataset, judged: Mapping[str, Any]) -> Trained:
        """The policy that is learnt from all, with what the judged one reached."""
        dataset = self._weighed(dataset)
        encoded, learner = self._fitted(dataset)
        self.progress("trade-offs and evidence")
        return trained(dataset, encoded, learner, self._adjusted(dataset, learner), judged)

    def _weighed(self, dataset: Dataset) -> Dataset:
        check(dataset)
        return dataset if self.recipe.weights else dataset.unweighted()

    def _fitted(self, dataset: Dataset) -> tuple[Encoded, Learner]:
        models = known(described(dataset), self.catalog_models)
        learner = Learner(arms=dataset.arms, models=models, seed=self.seed, recipe=self.recipe)
        encoded, fold = self._encoded(dataset.queries), folds(dataset.queries, FOLDS, self.seed)
        return encoded, learner.fit(encoded, dataset.rows, fold, self.progress)

    def _adjusted(self, dataset: Dataset, learner: Learner) -> Adjusted:
        return adjust(dataset, learner.out_of_fold_, self.samples, self.seed)

    def _encoded(self, queries: tuple[str, ...]) -> Encoded:
        """Encodes the queries, those of the fit before for nothing."""
        if self._known is None or not set(queries) <= set(self._known[0]):
            self.progress("embedding")
            self._known = queries, Encoded.of(queries, self.embedder)
        texts, encoded = self._known
        if texts == queries:
            return encoded
        place = {text: number for number, text in enumerate(texts)}
        return encoded.take(np.array([place[text] for text in queries], np.intp))


def foretold(learner: Learner, adjusted: Adjusted, dataset: Dataset) -> Mapping[str, Any]:
    """How well the rows' own scores are predicted by models that saw none of their fold."""
    accuracy = adjusted.predicted(learner.out_of_fold_).accuracy
    return prediction_figures(accuracy, learner.out_of_fold_.raw, dataset.rows)


def learn(
    dataset: Dataset,
    *,
    embedder: Embedder,
    catalog_models: Sequence[Model] | None = None,
    share: float = 0.2,
    seed: int = 0,
    recipe: Recipe = WHOLE,
    samples: Samples | None = None,
    progress: Progress = quiet,
) -> Trained:
    """Learns a policy; the same dataset and seed give the same one, bit for bit.

    Its figures come from the `share` of queries that the model which they judge has not
    seen; the policy itself is then learnt from all. The log's `samples` teach when to stop
    sampling. Raises InvalidInput when the log cannot teach.
    """
    learning = Learning(
        embedder=embedder,
        catalog_models=catalog_models,
        seed=seed,
        recipe=recipe,
        samples=samples,
        progress=progress,
    )
    check(dataset)
    part = Part(dataset=dataset, held=held_out(dataset, share, seed))
    return learning.final(dataset, learning.judged(part).summary["held_out"])


def write_bundle(policy: Trained, directory: Path, key: SigningKey, now: datetime) -> Manifest:
    """Writes and signs the policy's bundle; `now` is all that does not come from the log."""
    return write(
        directory,
        embedder=describe_embedder(policy.embedder),
        feature_names=policy.features.names,
        features_digest=policy.features.digest,
        arms=policy.arms,
        models=policy.models,
        training=policy.summary,
        booster_text=policy.booster_text,
        arrays=policy.arrays,
        golden_rows=policy.golden_rows,
        golden_raw=policy.golden_raw,
        key=key,
        now=now,
    )
