"""The training job: from a dataset to a policy, and nothing else.

dataset -> split -> out-of-fold predictions -> calibration, trade-off -> held-out figures
        -> the same on all of it -> bundle
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np

from router.bundle.embedder import describe_embedder
from router.bundle.manifest import Manifest
from router.bundle.signing import SigningKey
from router.bundle.writer import write
from router.policy.embedding import Embedder
from router.types import Model
from training.contexts import Encoded
from training.dataset import Dataset
from training.learner import Learner, Progress, cross_fit
from training.models import described, known
from training.splits import folds, held_out
from training.targets import Trained, adjust, check, figures, trained

FOLDS = 5


def quiet(_step: str) -> None:
    """Progress that nobody watches."""


def train(
    dataset: Dataset,
    *,
    embedder: Embedder,
    catalog_models: Sequence[Model] | None = None,
    share: float = 0.2,
    seed: int = 0,
    progress: Progress = quiet,
) -> Trained:
    """Learns a policy; the same dataset and seed give the same one, bit for bit.

    Its figures come from the `share` of queries that the model which they judge has not
    seen; the policy itself is then learnt from all. Raises InvalidInput when the log
    cannot teach.
    """
    check(dataset)
    models = known(described(dataset), catalog_models)
    learner = partial(Learner, arms=dataset.arms, models=models, seed=seed)

    progress("embedding")
    encoded = Encoded.of(dataset.queries, embedder)
    held = held_out(dataset, share, seed)
    fold = np.where(held, -1, folds(dataset.queries, FOLDS, seed))

    forecast = cross_fit(learner, dataset, encoded, fold, progress)
    progress("held-out queries")
    judged = learner().fit(encoded, dataset.rows.take(~held[dataset.rows.query]))
    unseen = judged.predict(encoded, held)
    seen = figures(dataset, held, unseen, adjust(dataset, forecast, seed))

    forecast.fill(held, unseen)
    progress("all queries")
    final = learner().fit(encoded, dataset.rows)
    return trained(dataset, encoded, final, adjust(dataset, forecast, seed), seen)


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
