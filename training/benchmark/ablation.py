"""Ablation: Leadline learnt without one of its parts at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from training.benchmark.leadline import Train
from training.dataset import Dataset
from training.targets import Trained

Parts = Mapping[str, Train]
"""What learns a policy without a part, under the part's name."""


def parts(train: Train, log: Dataset) -> Parts:
    """The parts that can be left out when learning from the log."""
    found: dict[str, Train] = {}
    if not np.isnan(log.rows.propensity).all():
        found["propensity weights"] = lambda dataset: _unweighted(train, dataset)
    return found


def _unweighted(train: Train, dataset: Dataset) -> Trained:
    rows = dataset.rows
    unknown = np.full(len(rows), np.nan)
    rows = replace(rows, propensity=unknown, weight=np.ones(len(rows)))
    return train(replace(dataset, rows=rows))
