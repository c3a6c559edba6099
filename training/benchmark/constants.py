"""Ways that know no query: the constant arms, their mixture, chance; and the one that knows all."""

from __future__ import annotations

from typing import Self

import numpy as np

from router.types import Floats
from training.benchmark.scale import Scale
from training.benchmark.ways import Walked, best_arms, spent
from training.log.dataset import Dataset


class BestConstant:
    """The most accurate arm as seen in training, for every query at any value."""

    name = "best_constant"

    def fit(self, train: Dataset) -> Self:
        """Finds the arm."""
        self.arm_ = Scale.of(train).best_arm
        return self

    def walk(self, test: Dataset, values_usd: Floats) -> Walked:
        """As Way says."""
        return spent(np.full((len(values_usd), len(test.queries)), self.arm_), test)


class Mixture:
    """The constant of the greatest value x mean accuracy - mean cost as seen in training.

    Mixing its points is the best mixture of constants as training knows it; the one that
    gap closed is measured against is chosen with the test's own means.
    """

    name = "mixture"

    def fit(self, train: Dataset) -> Self:
        """Learns each arm's means."""
        self.scale_ = Scale.of(train)
        return self

    def walk(self, test: Dataset, values_usd: Floats) -> Walked:
        """As Way says."""
        accuracy, cost_usd = self.scale_.accuracy[None], self.scale_.cost_usd[None]
        chosen = best_arms(accuracy, cost_usd, values_usd)
        return spent(np.repeat(chosen, len(test.queries), axis=1), test)


class Uniform:
    """An arm at random for each query: its exact expectation, the mean over the arms."""

    name = "uniform"

    def fit(self, train: Dataset) -> Self:  # noqa: ARG002
        """Learns nothing."""
        return self

    def walk(self, test: Dataset, values_usd: Floats) -> Walked:
        """As Way says."""
        shape = (len(values_usd), len(test.queries))
        return Walked(
            cost_usd=np.broadcast_to(test.table("cost_usd").mean(axis=1), shape),
            score=np.broadcast_to(test.table("score").mean(axis=1), shape),
        )


class Oracle:
    """Chooses with the true scores and costs; no way that tries one arm can do better."""

    name = "oracle"

    def fit(self, train: Dataset) -> Self:  # noqa: ARG002
        """Learns nothing."""
        return self

    def walk(self, test: Dataset, values_usd: Floats) -> Walked:
        """As Way says, but for the scores, which it reads."""
        score, cost_usd = test.table("score"), test.table("cost_usd")
        return spent(best_arms(score, cost_usd, values_usd), test)
