"""Trials of a candidate for the gate: its bundle, its speed, its slos' certificates, fairness."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import cycle, islice
from statistics import median
from uuid import UUID

import numpy as np

from router import pipeline
from router.bundle.loader import load_archive
from router.bundle.trial import Hangs
from router.errors import BundleRefused, Infeasible, InvalidInput
from router.policy.policy import Policy
from router.slo import AccuracyScope, Slo
from router.types import Bounds, Floats, Query
from training.certifying import certificate
from training.evaluation.logged import Logged
from training.evaluation.ope import scores
from training.fairness.audit import Asked as Strictness
from training.fairness.audit import audit
from training.fairness.figures import Judged
from training.fairness.verdict import Audit
from training.gate.contest import Contest
from training.gate.facts import Bundle, Promised, Timing
from training.log.dataset import Dataset

DECISIONS = 200
"""Decisions of each policy that are timed, in turn."""

_NEVER, _NOBODY = datetime(2000, 1, 1, tzinfo=UTC), UUID(int=0)
_WARM = 5


def bundle(archive: bytes, trusted: Mapping[str, bytes]) -> Bundle:
    """Whether a server would take the archive; tries its booster in a child process."""
    try:
        load_archive(archive, trusted=trusted)
    except (BundleRefused, Hangs) as error:
        return Bundle(verified=False, why=error.message)
    return Bundle(verified=True)


def timing(
    candidate: Policy,
    incumbent: Policy | None,
    texts: Sequence[str],
    slo: Slo,
    *,
    clock: Callable[[], float],
    decisions: int = DECISIONS,
) -> Timing:
    """Times decisions of both by turns, so that a busy machine slows both.

    `clock` gives seconds, as time.perf_counter does.
    """
    both = [candidate] if incumbent is None else [candidate, incumbent]
    taken: list[list[float]] = [[] for _policy in both]
    for text in islice(cycle(texts), decisions + _WARM):
        for times, policy in zip(taken, both, strict=True):
            times.append(_seconds(policy, text, slo, clock))
    found = [median(times[_WARM:]) for times in taken]
    return Timing(candidate_s=found[0], incumbent_s=found[1] if len(found) > 1 else None)


def _seconds(policy: Policy, text: str, slo: Slo, clock: Callable[[], float]) -> float:
    start = clock()
    with suppress(Infeasible):
        pipeline.decide(policy, Query(text=text), slo, Bounds(), decision_id=_NOBODY, now=_NEVER)
    return clock() - start


def promised(
    tenant: str, slo: Slo, candidate: Policy, incumbent: Policy | None, held: Dataset
) -> Promised | None:
    """Whether held-out outcomes certify the slo's mean floor under both; None where it has none."""
    if not slo.has_floor or slo.accuracy_scope is AccuracyScope.PER_QUERY:
        return None
    before = incumbent is not None and not _uncertified(incumbent, slo, held)
    why = _uncertified(candidate, slo, held)
    return Promised(tenant=tenant, slo=slo.name, before=before, after=not why, why=why)


def _uncertified(policy: Policy, slo: Slo, held: Dataset) -> str:
    """Why the slo can't be certified; empty where it can."""
    try:
        found = certificate(policy, held, slo)
    except InvalidInput as error:
        return error.message
    return "" if found.certified else found.message


def fairness(
    contest: Contest, compute: Floats, *, strictness: Strictness | None = None
) -> Audit | None:
    """The fairness audit of a contest, by doubly robust scores; None without slices.

    `compute` (a,) is each arm's inference compute.
    """
    held = contest.held
    if not held.facets:
        return None
    return audit(
        _judged(contest, contest.candidate.target, compute),
        held.facets,
        incumbent=_judged(contest, contest.rival_target, compute),
        subject=held.cluster,
        asked=strictness,
    )


def _judged(contest: Contest, target: Floats, compute: Floats) -> Judged:
    held = contest.held
    accuracy, spend = (
        Logged(
            arm=held.arm,
            propensity=held.propensity,
            reward=reward,
            predicted=expected,
            response=response,
        )
        for reward, expected, response in (
            (held.score, held.expected_score, held.response),
            (held.cost_usd, held.expected_cost_usd, None),
        )
    )
    return Judged(
        accuracy=scores(accuracy, target),
        spend_usd=scores(spend, target),
        thinking=np.asarray(target[:, : len(compute)] @ compute),
    )
