"""From a run's results to the gate's verdict: who is compared with whom, and on what.

The candidate is judged in the person of the policy that has not seen the held-out rows; its
bundle, its speed and its age are its own. Of the held-out rows those count that are newer
than what the incumbent has learnt from, with texts that it has not seen either: the longer
it serves, the more there are.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from router.bundle.loader import load
from router.bundle.signing import SigningKey
from router.errors import BundleRefused, InvalidInput
from router.loading import bind, learned, registered
from router.policy.arms import compute
from router.policy.embedding import Embedder
from router.policy.policy import Policy
from router.slo import DEFAULT_SLO, Slo
from router.types import Catalog, Floats, Mask, PolicyRecord
from training.evaluation.slices import Facet, facet, label_facets, script_facet, topic_facet
from training.evaluation.topics import learn
from training.gate.asked import asked
from training.gate.facts import Learnt, Promised
from training.gate.inputs import Outcomes, contest, responses, seen
from training.gate.judge import Checks, judge
from training.gate.trials import bundle, fairness, promised, timing
from training.log.dataset import Dataset, Indices, floats, microseconds
from training.log.sides import Sides
from training.log.splits import normalised
from training.report.looked import LOOKED, looked_at
from training.run.stage_results import Interactions, Taught
from training.scores.covariates import arm_keys
from training.scores.interactions import Settled

Slos = Mapping[tuple[str, str], Slo]
"""The slos of now, by the names of their tenants and their own."""


@dataclass(frozen=True, kw_only=True)
class Incumbent:
    """The policy that serves, as the registry has it."""

    record: PolicyRecord
    archive: bytes

    @property
    def watermark(self) -> datetime | None:
        """The newest time in what it learnt from."""
        return _watermark(self.record.summary)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A candidate before the gate, what serves, and the world that both would serve in."""

    found: Interactions
    settled: Settled
    sides: Sides
    judged: Taught
    policy: Taught
    incumbent: Incumbent | None
    catalog: Catalog
    slos: Slos
    key: SigningKey
    trusted: Mapping[str, bytes]
    embedder: Embedder
    seed: int


def verdict(case: Case) -> dict[str, Any]:
    """The gate's verdict with the figures behind it; where it can't judge, why not."""
    against = case.incumbent.record.version if case.incumbent else 0
    try:
        told = _judged(case)
    except (InvalidInput, BundleRefused) as error:
        told = {"promote": False, "conditions": [], "why": error.message}
    return {"incumbent": against, **told}


def _judged(case: Case) -> dict[str, Any]:
    held = Held.of(case)
    candidate, policy, incumbent = _policies(case)
    kept = case.settled.log.table.filter(pa.array(case.sides.kept))
    train = Dataset.from_table(kept)
    slos = [asked(each, incumbent or candidate, train) for _tenant, each in held.slos]
    outcomes = held.outcomes(case.embedder, case.seed)
    made = contest(outcomes, slos, candidate, incumbent, case.embedder)
    foretold = case.judged.summary["out_of_fold"]
    slo = held.slos[0][1]
    checks = Checks(
        learnt=Learnt(
            watermark=_watermark(case.policy.summary),
            incumbent_watermark=case.incumbent.watermark if case.incumbent else None,
            brier=foretold.get("brier"),
            brier_rows=foretold["rows"],
            seen=seen(outcomes, kept["query"].unique().to_pylist()),
        ),
        bundle=bundle(case.policy.archive(), case.trusted),
        timing=timing(policy, incumbent, outcomes.texts, slo, clock=time.perf_counter),
        slos=list(held.promised(candidate, incumbent)),
        audit=fairness(made.contest, np.array([compute(arm) for arm in candidate.arms])),
        unanswered=made.unanswered,
    )
    found = judge(made.contest, checks, seed=case.seed).to_mapping()
    return {
        **found,
        "interactions": len(outcomes) - made.left_out,
        "left_out": made.left_out,
        LOOKED: looked_at(made.contest, candidate.arms, checks.audit),
    }


def _policies(case: Case) -> tuple[Policy, Policy, Policy | None]:
    """The policy that is judged in its stead, the candidate itself, and the incumbent."""
    catalog = case.catalog

    def bound(taught: Taught) -> Policy:
        own = {case.key.key_id: case.key.public_key}
        return bind(
            learned(load(taught.bundle, trusted=own, probe=False), case.embedder), catalog, 0
        )

    before = case.incumbent
    if before is None:
        return bound(case.judged), bound(case.policy), None
    digest, version = before.record.bundle_sha256, before.record.version
    taught = registered(before.archive, digest, case.trusted, case.embedder)
    return bound(case.judged), bound(case.policy), bind(taught, catalog, version)


@dataclass(frozen=True, kw_only=True)
class Held:
    """Held-out first attempts of our own: rows of the log, and of the attempts behind them.

    `asked` (n,) is the place of each one's slo, by its tenant, among `slos`.
    """

    log: pa.Table
    attempts: pa.Table
    slos: Sequence[tuple[str, Slo]]
    asked: Indices

    @classmethod
    def of(cls, case: Case) -> Held:
        """Finds them. Raises InvalidInput when there are none."""
        log, attempts = case.settled.log.table, case.found.attempts
        fresh = case.sides.held & _unseen(log, case.incumbent)
        place = _first_attempts(log, attempts)
        rows = np.flatnonzero(fresh & (place >= 0))
        if not len(rows):
            raise InvalidInput(
                "no held-out decision of Leadline's own is newer than what serves has learnt from",
                field="log",
            )
        log, attempts = log.take(rows), attempts.take(place[rows])
        named = list(zip(*_named(attempts), strict=True))
        names = sorted(set(named))
        index = {name: number for number, name in enumerate(names)}
        return cls(
            log=log,
            attempts=attempts,
            slos=[(tenant, _slo(case.slos, tenant, slo)) for tenant, slo in names],
            asked=np.array([index[name] for name in named], np.intp),
        )

    def outcomes(self, embedder: Embedder, seed: int) -> Outcomes:
        """What the gate reads of them."""
        texts = self.log["query"].to_pylist()
        score = floats(self.log, "score")
        asker = _askers(self.log["subject"].to_pylist(), texts)
        return Outcomes(
            texts=texts,
            arm=arm_keys(self.log),
            asked=self.asked,
            propensity=floats(self.log, "propensity"),
            score=score,
            cost_usd=floats(self.log, "cost_usd"),
            latency_s=floats(self.log, "latency_s"),
            facets=self._facets(texts, asker, embedder, seed),
            response=responses(score, _score_weight(self.log)),
            cluster=asker,
        )

    def promised(self, candidate: Policy, incumbent: Policy | None) -> Iterator[Promised]:
        """Whether each slo with a floor can be certified, under either policy."""
        for number, (tenant, slo) in enumerate(self.slos):
            mine = Dataset.from_table(self.log.filter(pa.array(self.asked == number)))
            found = promised(tenant, slo, candidate, incumbent, mine)
            if found is not None:
                yield found

    def _facets(
        self, texts: Sequence[str], asker: Indices, embedder: Embedder, seed: int
    ) -> tuple[Facet, ...]:
        vectors = np.asarray(embedder.encode_many(texts).vectors, np.float64)
        topics = learn(vectors, texts, subject=asker, seed=seed)
        labels = [orjson.loads(each or "{}") for each in self.attempts["labels"].to_pylist()]
        return (
            facet("tenant", self.log["tenant"].to_pylist()),
            script_facet(texts),
            topic_facet(topics, vectors),
            *label_facets(labels),
        )


def _first_attempts(log: pa.Table, attempts: pa.Table) -> Indices:
    """The place of each log row's attempt (n,), -1 unless it is a first one of our own.

    Of later ones the propensity is not known, and of imported ones who decided.
    """
    ours = (attempts["attempt"].to_numpy() == 0) & ~np.asarray(attempts["imported"])
    ours &= np.asarray(attempts["propensity"].is_valid())
    rows = np.flatnonzero(ours)
    part = attempts.take(rows)
    names = zip(part["decision_id"].to_pylist(), arm_keys(part), strict=True)
    place = dict(zip(names, rows.tolist(), strict=True))
    told = zip(log["decision_id"].to_pylist(), arm_keys(log), strict=True)
    return np.array([place.get(each, -1) for each in told], np.intp)


def _unseen(log: pa.Table, incumbent: Incumbent | None) -> Mask:
    """Rows (n,) that are newer than what the incumbent learnt from, with texts new to it."""
    watermark = incumbent.watermark if incumbent else None
    if watermark is None:
        return np.ones(len(log), bool)
    newer = microseconds(log) > int(watermark.timestamp() * 1e6)
    texts = np.array([normalised(text) for text in log["query"].to_pylist()], object)
    known = set(texts[~newer])
    return np.asarray(newer & np.array([text not in known for text in texts], bool))


def _named(attempts: pa.Table) -> tuple[list[str], list[str]]:
    tenants = [each or "" for each in attempts["tenant"].to_pylist()]
    return tenants, [each or DEFAULT_SLO for each in attempts["slo_name"].to_pylist()]


def _slo(slos: Slos, tenant: str, name: str) -> Slo:
    """The slo as it is now; without one of its name, the tenant's default or what stands for it."""
    return slos.get((tenant, name)) or slos.get((tenant, DEFAULT_SLO)) or Slo(name=DEFAULT_SLO)


def _askers(subjects: Sequence[str | None], texts: Sequence[str]) -> Indices:
    """Who asked, (n,): rows of one subject, or of one text where nobody is named."""
    names = [one or f"text {normalised(text)}" for one, text in zip(subjects, texts, strict=True)]
    return np.asarray(np.unique(np.array(names, object), return_inverse=True)[1], np.intp)


def _score_weight(table: pa.Table) -> Floats:
    weight = floats(table, "score_weight")
    return np.where(np.isnan(weight), 1.0, weight)


def _watermark(summary: Mapping[str, Any]) -> datetime | None:
    found = summary.get("watermark")
    return datetime.fromisoformat(found) if found else None
