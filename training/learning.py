"""Learning: from a dataset to a policy, and nothing else.

dataset -> split -> models, out of fold -> calibration, trade-offs, evidence -> held-out figures
        -> the same on all of it -> bundle
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

from router.bundle.embedder import describe_embedder
from router.bundle.manifest import Manifest
from router.bundle.signing import SigningKey
from router.bundle.writer import write
from router.policy.embedding import Embedder
from router.types import Model
from training.contexts import Encoded
from training.dataset import Dataset
from training.learner import Learner, Progress
from training.models import described, known
from training.recipe import WHOLE, Recipe
from training.samples import Samples
from training.splits import folds, held_out
from training.targets import Trained, adjust, check, figures, trained
from training.threads import one_thread

FOLDS = 5


def quiet(_step: str) -> None:
    """Progress that nobody watches."""


@one_thread()
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
    check(dataset)
    dataset = dataset if recipe.weights else dataset.unweighted()
    models = known(described(dataset), catalog_models)
    fold = folds(dataset.queries, FOLDS, seed)
    learner = partial(Learner, arms=dataset.arms, models=models, seed=seed, recipe=recipe)

    progress("embedding")
    encoded = Encoded.of(dataset.queries, embedder)
    held = held_out(dataset, share, seed)

    judged = learner().fit(encoded, dataset.rows.take(~held[dataset.rows.query]), fold, progress)
    progress("held-out queries")
    adjusted = adjust(dataset, judged.out_of_fold_, samples, seed)
    seen = figures(dataset, held, judged.predict(encoded, held), adjusted, models)

    final = learner().fit(encoded, dataset.rows, fold, progress)
    progress("trade-offs and evidence")
    adjusted = adjust(dataset, final.out_of_fold_, samples, seed)
    return trained(dataset, encoded, final, adjusted, seen)


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
