"""The recipe: which parts the accuracy model is made of, so that each can be left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from router.policy.arms import ARM_FEATURES
from router.policy.features import TEXT_FEATURES
from router.types import Mask


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All of it, or all but some parts, as an ablation has it.

    `kernel`, `neighbours`, `probe` and `words` are the signals, `shared` what all arms share of
    them; `text` the text features and `descriptors` the arms' among the trees' columns.
    Without `trees` the stacked signals alone are left; without `weights` propensities are
    not looked at.
    """

    kernel: bool = True
    neighbours: bool = True
    probe: bool = True
    words: bool = True
    shared: bool = True
    text: bool = True
    descriptors: bool = True
    trees: bool = True
    weights: bool = True

    @property
    def signals(self) -> Mask:
        """Which of SIGNALS take part, shape (s,)."""
        own = [self.kernel, self.neighbours, self.probe, self.words]
        return np.array(own + [each and self.shared for each in own])

    @property
    def columns(self) -> Mask:
        """Which columns of a (query, arm) row take part: text features, signals, arm features."""
        text = np.full(len(TEXT_FEATURES), self.text)
        return np.concatenate((text, self.signals, np.full(len(ARM_FEATURES), self.descriptors)))


WHOLE = Recipe()
