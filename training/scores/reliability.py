"""How far each source of scores can be trusted, learnt where several score the same answer.

Dawid & Skene's model (1979) of two classes: a source calls a right answer right with its
sensitivity and a wrong one wrong with its specificity, whatever the other sources say. Both
have a beta prior by the kind of source, above one half, so that EM cannot swap right and
wrong. An exact source is the truth itself. A score between 0 and 1 counts as so much of
either verdict.

Two sources that differ do not tell which of them errs: it takes an exact one, or three that
share answers with one another. Until then a source is taken at its word.

How probable a right answer was before anyone scored it is a regression on what is known of
the answer (Raykar et al. 2010): one rate for all would pull every score towards the mean.
Sources that err together are trusted too much; only an exact one shows that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from scipy.stats import beta

from router.types import Floats, Mask
from training.learning.logistic import logistic

LEAST_SHARED = 30
"""Two sources that share fewer answers say nothing of one another."""

EXACT = frozenset({"exact", "import"})
"""Sources that are the truth: an exact check, and what history says of itself."""

_PRIOR: Mapping[str, tuple[float, float]] = {
    "verifier": (0.9, 0.9),
    "judge": (0.85, 0.85),
    "feedback": (0.85, 0.75),
}
_PRIOR_OF_OTHERS = (0.85, 0.85)
_PRIOR_ANSWERS = 10.0
_STEPS, _ROUNDS, _MOST_TAUGHT = 1_000, 15, 20_000
_PENALTY_INVERSE = 1.0
_CHANGE, _ROUND_CHANGE = 1e-6, 1e-3
_LEAST = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A probability with its central 95 % interval."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """What is known of a source that scored so many answers, `shared` of them with others.

    Where it was not `learnt`, the rates are the prior's and are not used.

    The intervals take what the sources together make of each answer for its truth, so they
    are a little narrow where no exact source does.
    """

    source: str
    sensitivity: Rate
    specificity: Rate
    scored: int
    shared: int
    exact: bool
    learnt: bool


@dataclass(frozen=True, kw_only=True)
class Reconciled:
    """What the sources together say of n answers, and how much that is worth.

    `score` (n,) is the probability that the answer is right, NaN where nobody scored it.
    `information` (n,) is the share of the truth's variance that the sources explain: 1 for
    an exact one, 0 for one that guesses. It does not depend on what they said, so that to
    weigh by it favours neither verdict.
    """

    score: Floats
    information: Floats
    sources: tuple[Reliability, ...]


def reconcile(sources: tuple[str, ...], scores: Floats, covariates: Floats) -> Reconciled:
    """Learns from scores (n, k), NaN where a source was silent, and covariates (n, c).

    What an exact source says stays as it is. Where none but sources that are taken at their
    word spoke, the score is their mean. Covariates have a like spread each.
    """
    exact = np.array([source in EXACT for source in sources], bool)
    learnt = exact | _testable(scores, exact)
    truth = _mean(np.where(exact, scores, np.nan))
    trusted = np.where(learnt, scores, np.nan)
    rates = _learn(sources, trusted, truth, exact)
    score = np.where(np.isnan(truth), _mean(scores), truth)
    noisy = np.isnan(truth) & ~np.isnan(trusted).all(axis=1)
    information = np.ones(len(scores))
    if noisy.any():
        chance = _chance(rates, trusted, score, noisy, covariates)
        score[noisy] = rates.posterior(trusted, chance)[noisy]
        information[noisy] = rates.information(trusted, chance)[noisy]
    told = tuple(
        rates.reliability(place, source, scores, learnt=bool(learnt[place]))
        for place, source in enumerate(sources)
    )
    return Reconciled(score=score, information=information, sources=told)


def _testable(scores: Floats, exact: Mask) -> Mask:
    """Which sources (k,) share enough answers with an exact one, or three with one another."""
    heard = (~np.isnan(scores)).astype(np.float64)
    pairs = heard.T @ heard >= LEAST_SHARED
    np.fill_diagonal(pairs, 0)
    among = (pairs & ~exact & ~exact[:, None]).astype(np.float64)
    triangles = np.diag(among @ among @ among) > 0
    return np.asarray(~exact & ((pairs & exact).any(axis=1) | triangles), bool)


@dataclass(frozen=True, kw_only=True)
class _Rates:
    """Counted verdicts (k, 2, 2) by truth (right, wrong) and verdict (right, wrong)."""

    counted: Floats
    exact: Mask

    @property
    def sensitivity(self) -> Floats:
        return np.asarray(self.counted[:, 0, 0] / self.counted[:, 0].sum(axis=1))

    @property
    def specificity(self) -> Floats:
        return np.asarray(self.counted[:, 1, 1] / self.counted[:, 1].sum(axis=1))

    def posterior(self, scores: Floats, chance: Floats) -> Floats:
        """The probability (n,) that an answer is right, given what each source said."""
        right, wrong = _kept(self.sensitivity), _kept(self.specificity)
        for_right, for_wrong = np.log(right / (1.0 - wrong)), np.log((1.0 - right) / wrong)
        said = np.nan_to_num(scores) * for_right + np.nan_to_num(1.0 - scores) * for_wrong
        return np.asarray(expit(logit(_kept(chance)) + said @ ~self.exact))

    def information(self, scores: Floats, chance: Floats) -> Floats:
        """The share (n,) of the truth's variance that the sources of a row explain.

        Of one source: (sensitivity + specificity - 1)^2 x variance of truth / of verdict;
        what several leave unexplained is taken to multiply.
        """
        chance = _kept(chance)[:, None]
        right = chance * self.sensitivity + (1.0 - chance) * (1.0 - self.specificity)
        told = np.square(self.sensitivity + self.specificity - 1.0) * chance * (1.0 - chance)
        unexplained = np.where(np.isnan(scores), 1.0, 1.0 - told / (right * (1.0 - right)))
        return np.asarray(1.0 - unexplained.prod(axis=1))

    def reliability(self, place: int, source: str, scores: Floats, *, learnt: bool) -> Reliability:
        exact, certain = bool(self.exact[place]), Rate(estimate=1.0, low=1.0, high=1.0)
        (hits, misses), (alarms, rejections) = self.counted[place]
        heard = ~np.isnan(scores)
        return Reliability(
            source=source,
            sensitivity=certain if exact else _rate(hits, misses),
            specificity=certain if exact else _rate(rejections, alarms),
            scored=int(heard[:, place].sum()),
            shared=int((heard[:, place] & (heard.sum(axis=1) > 1)).sum()),
            exact=exact,
            learnt=learnt,
        )


def _learn(sources: tuple[str, ...], scores: Floats, truth: Floats, exact: Mask) -> _Rates:
    """EM over the answers that several sources scored; the priors where there is none."""
    several = (~np.isnan(scores)).sum(axis=1) > 1
    prior = np.array([_prior(source) for source in sources]).reshape(-1, 2, 2)
    scores, truth = scores[several], truth[several]
    believed = np.where(np.isnan(truth), _mean(scores), truth)
    rates = _Rates(counted=_counted(prior, scores, believed), exact=exact)
    for _ in range(_STEPS if len(scores) else 0):
        chance = np.full(len(scores), (believed.sum() + 1.0) / (len(believed) + 2.0))
        before = believed
        believed = np.where(np.isnan(truth), rates.posterior(scores, chance), truth)
        rates = _Rates(counted=_counted(prior, scores, believed), exact=exact)
        if np.abs(believed - before).max() < _CHANGE:
            break
    return rates


def _counted(prior: Floats, scores: Floats, believed: Floats) -> Floats:
    verdicts = np.stack((np.nan_to_num(scores), np.nan_to_num(1.0 - scores)))
    truths = np.stack((believed, 1.0 - believed))
    return np.asarray(prior + np.einsum("tn,vnk->ktv", truths, verdicts))


def _chance(
    rates: _Rates, scores: Floats, taught: Floats, noisy: Mask, covariates: Floats
) -> Floats:
    """How probable a right answer was before it was scored, (n,), as the covariates tell."""
    known = np.flatnonzero(~np.isnan(taught))
    step = max(len(known) // _MOST_TAUGHT, 1)
    part, believed = known[::step], taught.copy()
    chance = np.full(len(taught), float(np.nanmean(taught)))
    for _ in range(_ROUNDS):
        believed[noisy] = rates.posterior(scores[noisy], chance[noisy])
        ones = np.ones(len(part))
        bias, weights = logistic(covariates[part], believed[part], ones, _PENALTY_INVERSE)
        before, chance = chance, np.asarray(expit(bias + covariates @ weights))
        if np.abs(chance - before).mean() < _ROUND_CHANGE:
            break
    return chance


def _prior(source: str) -> list[list[float]]:
    right, wrong = _PRIOR.get(source, _PRIOR_OF_OTHERS)
    of_right, of_wrong = [right, 1.0 - right], [1.0 - wrong, wrong]
    return [[_PRIOR_ANSWERS * share for share in shares] for shares in (of_right, of_wrong)]


def _rate(right: float, wrong: float) -> Rate:
    low, high = beta.ppf((0.025, 0.975), right, wrong)
    return Rate(estimate=float(right / (right + wrong)), low=float(low), high=float(high))


def _kept(share: Floats) -> Floats:
    return np.asarray(np.clip(share, _LEAST, 1.0 - _LEAST))


def _mean(scores: Floats) -> Floats:
    """The mean (n,) of what is there, NaN where nothing is."""
    heard = ~np.isnan(scores)
    count = heard.sum(axis=1)
    total = np.where(heard, scores, 0.0).sum(axis=1)
    means = np.divide(total, count, out=np.full(len(scores), np.nan), where=count > 0)
    return np.asarray(means)
