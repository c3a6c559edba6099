"""Ablation: Leadline learnt without one of its parts at a time."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Protocol

import numpy as np

from training.benchmark.leadline import Train
from training.learning.recipe import WHOLE, Recipe
from training.learning.targets import Trained
from training.log.dataset import Dataset

Parts = Mapping[str, Train]
"""What learns a policy without a part, under the part's name."""

WITHOUT: Mapping[str, Recipe] = {
    "kernel signal": Recipe(kernel=False),
    "neighbours signal": Recipe(neighbours=False),
    "probe signal": Recipe(probe=False),
    "words signal": Recipe(words=False),
    "shared signals": Recipe(shared=False),
    "text features": Recipe(text=False),
    "arm descriptors": Recipe(descriptors=False),
    "trees": Recipe(trees=False),
    "propensity weights": Recipe(weights=False),
}


class Recipes(Protocol):
    """Learns a policy from a dataset by a recipe."""

    def __call__(self, dataset: Dataset, /, *, recipe: Recipe = WHOLE) -> Trained:
        """The policy."""


def parts(train: Recipes, log: Dataset) -> Parts:
    """The parts that can be left out when learning from the log."""
    uniform = bool(np.isnan(log.rows.propensity).all())
    return {
        name: partial(train, recipe=recipe)
        for name, recipe in WITHOUT.items()
        if recipe.weights or not uniform
    }
