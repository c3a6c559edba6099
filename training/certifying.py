"""From a policy and interactions that it has not learnt from to an accuracy certificate.

The decisions are serving's own, one attempt each, at every value of a correct answer that
the policy's trade-off has. A full-information log shows the score of each of them. A bandit
log shows that of the arm that was picked, which inverse propensity weights make up for; a
wrong prediction then costs precision, never validity (doubly robust). Its policy must have
been able to pick any arm that may be chosen, wherever it picked at random.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import orjson

from router.errors import InvalidInput
from router.policy.certificate import Asked, Candidates, Certificate, Origin, Window, certify
from router.policy.hedging import Sample
from router.policy.policy import Policy
from router.slo import AccuracyScope, Slo
from router.types import Floats
from training.evaluation.scored import Log, Scored, check_arm
from training.learning.decided import Decided, decided
from training.log.dataset import Dataset

VARIANCE = 0.15
"""A guess of a score's variance, before scores are seen."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a dataset shows of a policy's trade-off, whatever the floor.

    `candidates` are what is certified; `left_out` counts queries that show nothing, and
    `unlabelled_n` queries without outcome that sharpen it.
    """

    candidates: Candidates
    made: Decided
    left_out: int
    unlabelled_n: int


def certificate(
    policy: Policy,
    dataset: Dataset,
    slo: Slo,
    *,
    pool: Sequence[str] = (),
    window: Window | None = None,
    look: int | None = None,
    seed: int = 0,
) -> Certificate:
    """Certifies the slo's floor from outcomes that the policy has not learnt from.

    `pool` holds queries without outcomes, drawn like those of the dataset: the policy's
    predictions for them sharpen the certificate. The same arguments give the same one.
    Where outcomes grow and are looked at again, `look` counts from 1: all such certificates
    together are false with a chance of 1 - the slo's confidence at most.
    Raises InvalidInput when there is nothing to certify, or nothing to certify from.
    """
    asked = replace(_asked(slo), look=look)
    found = shown(policy, dataset, slo, pool=pool, seed=seed)
    digest = hashlib.sha256(dataset.digest.encode())
    digest.update(orjson.dumps([slo.to_mapping(), list(pool), seed], default=str))
    digest.update(found.made.arms.tobytes() + found.made.accuracy.tobytes())
    origin = Origin(
        source_digest=digest.hexdigest(),
        policy_version=policy.version,
        left_out=found.left_out,
        unlabelled_n=found.unlabelled_n,
        window=window,
    )
    return certify(found.candidates, asked, origin)


def shown(
    policy: Policy, dataset: Dataset, slo: Slo, *, pool: Sequence[str] = (), seed: int = 0
) -> Shown:
    """What the dataset shows of the decisions at every value. Raises as `certificate` does."""
    if policy.tradeoff is None:
        raise InvalidInput("it has learnt no trade-off; train one first", field="policy")
    values_usd, share = policy.tradeoff.value_usd, slo.min_relative_accuracy or 0.0
    made = decided(policy, dataset.queries, slo, values_usd)
    log = Log.of(dataset, policy)
    scored = log.scored(made)
    if slo.reference_arm:
        scored = scored.beside(log.scored_arm(made, check_arm(policy, slo.reference_arm)))
    usable = ~np.isnan(scored.value).any(axis=1)
    if not usable.any():
        raise InvalidInput(
            "no query has a score for every arm that may be chosen for it, and no row has both "
            "a score and a propensity; bring outcomes that can tell",
            field="log",
        )
    rng = np.random.default_rng(seed)
    known = scored.take(rng.permutation(np.flatnonzero(usable)))
    groups = _groups(_expected(policy, pool, slo, values_usd), len(known), rng) if pool else None
    sample, reference = sample_of(known, log, slo, groups)
    untried = (1.0 - known.tried).mean(axis=0)
    return Shown(
        candidates=Candidates(
            value_usd=values_usd,
            cost_usd=made.mean(made.cost_usd)[known.query].mean(axis=0),
            effective_n=known.effective[: len(values_usd)],
            sample=sample,
            reference=reference,
            referred=_referred(known, log) if slo.reference_arm else None,
            untried=untried[: len(values_usd)] + share * untried[-1],
            expected=_foreseen(policy, slo),
        ),
        made=made,
        left_out=len(np.setdiff1d(np.arange(len(dataset.queries)), known.query)),
        unlabelled_n=0 if groups is None else groups[1],
    )


def _foreseen(policy: Policy, slo: Slo) -> Floats | None:
    """What training expected of every value, less the reference's share; None if unknown."""
    known = policy.mean_accuracy.get(slo.reference_arm, 0.0 if not slo.reference_arm else None)
    if policy.tradeoff is None or known is None:
        return None
    return np.asarray(policy.tradeoff.accuracy - (slo.min_relative_accuracy or 0.0) * known)


Groups = tuple[Floats, int]
"""The mean prediction of a group of the pool for each row, and how many queries these are."""


def sample_of(known: Scored, log: Log, slo: Slo, groups: Groups | None) -> tuple[Sample, float]:
    """Scores, less a share of the reference arm's where the floor is relative; and that share."""
    share, relative = slo.min_relative_accuracy or 0.0, bool(slo.reference_arm)
    controls = known.own if groups is None else known.own + (known.expected - groups[0])
    value, tied, reference = known.value, controls, 0.0
    if relative:
        reference = share * float((value - controls)[:, -1].mean())
        value = value[:, :-1] - share * value[:, -1:]
        tied = tied[:, :-1] - share * tied[:, -1:]
    weighted = log.table is None
    sample = Sample(
        values=value,
        controls=tied if weighted or groups is not None else None,
        least=-share * log.most_weight,
        most_control=log.most_weight + share,
        variance=VARIANCE * (len(log.seen) if weighted else 1),
    )
    return sample, reference


def _referred(known: Scored, log: Log) -> Sample:
    """What is known of the reference arm, no more than its accuracy: else 0, where 1 stood in."""
    weighted = log.table is None
    return Sample(
        values=known.value[:, -1:] - (1.0 - known.tried[:, -1:]),
        controls=known.own[:, -1:] if weighted else None,
        most_control=log.most_weight,
        variance=VARIANCE * (len(log.seen) if weighted else 1),
    )


def _expected(policy: Policy, texts: Sequence[str], slo: Slo, values_usd: Floats) -> Floats:
    """The predicted accuracy of the decisions for some queries, and the reference arm's."""
    made = decided(policy, texts, slo, values_usd)
    expected = made.mean(made.accuracy)
    if slo.reference_arm:
        arm = check_arm(policy, slo.reference_arm)
        expected = np.concatenate((expected, made.accuracy[:, [arm]]), axis=1)
    return expected[made.answered]


def _groups(expected: Floats, rows: int, rng: np.random.Generator) -> Groups | None:
    """A group of the pool for each row, all of one size, so that rows stay independent."""
    size = len(expected) // rows
    if not size:
        return None
    used = rng.permutation(len(expected))[: size * rows]
    return np.asarray(expected[used].reshape(rows, size, -1).mean(axis=1)), len(used)


def _asked(slo: Slo) -> Asked:
    if slo.accuracy_scope is AccuracyScope.PER_QUERY:
        raise InvalidInput(
            "a certificate is of a mean accuracy; set it to average", field="slo.accuracy_scope"
        )
    if slo.min_relative_accuracy is not None:
        return Asked(
            floor=slo.min_relative_accuracy,
            confidence=slo.confidence,
            reference_arm=slo.reference_arm,
        )
    if slo.min_accuracy is None:
        raise InvalidInput(
            "there is no floor to certify; set it or min_relative_accuracy",
            field="slo.min_accuracy",
        )
    return Asked(floor=slo.min_accuracy, confidence=slo.confidence)
