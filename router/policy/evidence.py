"""Evidence: how the confidence of an attempt moves the belief in every arm's answer.

A Gaussian copula. Arm j answers correctly when mu_j + xi_j > 0, with mu_j the probit of its
predicted accuracy and xi_j standard normal. The surprise r_i of arm i is how far its
confidence lies from what its prediction lets expect, standard normal too. Correlations
between them are all that is learnt; given any attempts the belief then has a closed form,
Phi((mu_j + m_j) / sqrt(1 - v_j)), and its mean over what could be seen is the prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from router.policy.bundled import Bundled
from router.types import Arm, Floats

Indices = NDArray[np.intp]

MOST_EXPLAINED = 0.95
"""No evidence makes an answer certain: so much of the variance of xi it explains at most."""

PASSED_ON, ALIKE = 0.5, 0.3
"""Before anything is known of a pair of arms: a query that is hard for one is hard for others.

The share of an arm's own correlation that its surprise has with another arm's answer, and
the correlation of their surprises.
"""

LEAST_VARIANCE = 0.02
"""No surprise is so certain from others that its variance falls below this."""

NODES = np.array([-1.0911, 0.0, 1.0911])
"""The means of the thirds of a standard normal: the surprises that planning looks at."""

_CLIP = 1e-2


def probit(probability: Floats) -> Floats:
    """The standard normal quantile, of probabilities none nearer than 0.01 to 0 or 1."""
    cut = np.minimum(np.maximum(probability, _CLIP), 1.0 - _CLIP)  # np.clip takes twice as long
    return np.asarray(ndtri(cut))


def belief(mean: Floats, explained: Floats) -> Floats:
    """Phi(mean / sqrt(1 - explained)): the probability that mean + xi > 0 given the evidence."""
    return np.asarray(ndtr(mean / np.sqrt(1.0 - np.minimum(explained, MOST_EXPLAINED))))


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceModel(Bundled):
    """What training learnt about confidence, for a arms.

    `knots` (a, k) are confidences and `scores` (a, k) the normal scores of their ranks;
    `expected` (a, 2) is the score to expect, a bias and a weight of mu, and `spread` (a,)
    the standard deviation around it. `transfer` (a, a) correlates the surprise of the arm of
    the row with xi of the arm of the column, `likeness` (a, a) surprises with one another.
    An arm that informs nothing has zeros in its row of `transfer`.
    """

    PREFIX: ClassVar[str] = "evidence_"

    knots: Floats
    scores: Floats
    expected: Floats
    spread: Floats
    transfer: Floats
    likeness: Floats

    def informs(self, index: int) -> bool:
        """Whether an attempt with the arm shows anything to go by."""
        return bool(self.transfer[index].any())

    def surprise(self, arms: Indices, mu: Floats, confidence: Floats) -> Floats:
        """The surprise of attempts with `arms`, all (n,); NaN where nothing is shown."""
        scores = np.array(
            [
                np.interp(value, self.knots[arm], self.scores[arm])
                for arm, value in zip(arms, confidence, strict=True)
            ]
        ).reshape(len(arms))
        bias, slope = self.expected[arms].T
        surprise = (scores - bias - slope * mu) / self.spread[arms]
        return np.where(self.transfer[arms].any(axis=1), surprise, np.nan)

    def bind(self, trained_arms: Sequence[Arm], arms: Sequence[Arm]) -> EvidenceModel:
        """The model for the catalog's arms; an arm that was not trained on informs nothing."""
        index = {arm.key: row for row, arm in enumerate(trained_arms)}
        rows = np.array([index.get(arm.key, -1) for arm in arms], dtype=np.intp)
        pairs, known = np.ix_(rows, rows), (rows[:, None] >= 0) & (rows >= 0)
        own = np.where(rows >= 0, np.diag(self.transfer)[rows], 0.0)
        passed_on = PASSED_ON * own[:, None] * ~np.eye(len(rows), dtype=bool)
        return EvidenceModel(
            knots=self.knots[rows],
            scores=self.scores[rows],
            expected=self.expected[rows],
            spread=self.spread[rows],
            transfer=np.where(known, self.transfer[pairs], passed_on),
            likeness=np.where(known, self.likeness[pairs], np.eye(len(rows))),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Beliefs:
    """What is believed of n queries after some attempts on each.

    `mean` and `explained` (n, a) are mu + m and v of the belief; `awaited` (n, a) is the
    surprise to expect of each arm; `transfer` and `likeness` (n, a, a) are the covariances
    that the attempts leave, as EvidenceModel has them before.
    """

    mean: Floats
    explained: Floats
    awaited: Floats
    transfer: Floats
    likeness: Floats

    @classmethod
    def of(cls, model: EvidenceModel, mu: Floats) -> Beliefs:
        """Before any attempt; `mu` is (n, a)."""
        shape = (len(mu), *model.transfer.shape)
        return cls(
            mean=mu,
            explained=np.zeros_like(mu),
            awaited=np.zeros_like(mu),
            transfer=np.broadcast_to(model.transfer, shape),
            likeness=np.broadcast_to(model.likeness, shape),
        )

    @property
    def accuracy(self) -> Floats:
        """The probability that each arm's answer is, or would be, correct, (n, a)."""
        return belief(self.mean, self.explained)

    def take(self, which: NDArray[np.bool_] | Indices) -> Beliefs:
        """The beliefs of some of the queries."""
        return Beliefs(**{name: getattr(self, name)[which] for name in self.__slots__})

    def after(self, arms: Indices, surprise: Floats) -> Beliefs:
        """The beliefs once an attempt with `arms` (n,) showed `surprise` (n,).

        Conditions the Gaussian on it; NaN, where nothing was shown, changes nothing.
        """
        rows = np.arange(len(arms))
        alike, moved = self.likeness[rows, arms], self.transfer[rows, arms]
        variance = np.maximum(alike[rows, arms], LEAST_VARIANCE)
        shown = ~np.isnan(surprise)
        gain = (shown / variance)[:, None]
        news = gain * np.where(shown, surprise - self.awaited[rows, arms], 0.0)[:, None]
        return replace(
            self,
            mean=self.mean + moved * news,
            explained=self.explained + moved**2 * gain,
            awaited=self.awaited + alike * news,
            transfer=self.transfer - alike[:, :, None] * (moved * gain)[:, None, :],
            likeness=self.likeness - alike[:, :, None] * (alike * gain)[:, None, :],
        )

    def ahead(self, tried: Indices, nodes: Floats) -> Floats:
        """The best belief in hand after one more attempt, (n, a, b): by its arm and surprise.

        In hand are the answers of the `tried` arms (n, k) and of the new one, whose
        surprise is at each of the standard normal `nodes` (b,).
        """
        rows, arms = np.arange(len(tried)), np.arange(self.mean.shape[1])
        spread = np.sqrt(np.maximum(self.likeness[:, arms, arms], LEAST_VARIANCE))
        best = _shown(self.mean, self.explained, self.transfer[:, arms, arms] / spread, nodes)
        for arm in tried.T:
            mean, explained = self.mean[rows, arm], self.explained[rows, arm]
            moved = self.transfer[rows, :, arm] / spread
            held = _shown(mean[:, None], explained[:, None], moved, nodes)
            np.maximum(best, held, out=best)
        return best


def _shown(mean: Floats, explained: Floats, moved: Floats, nodes: Floats) -> Floats:
    """The beliefs (n, a, b) once news at the nodes moves means by `moved` (n, a) each."""
    return belief(mean[..., None] + moved[..., None] * nodes, (explained + moved**2)[..., None])
