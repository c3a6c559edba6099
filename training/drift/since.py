"""What moved in a log since the active policy was trained.

The reference is a sample of what the policy learnt from, the other window what came last.
What each arm was expected to score is foretold by a reward model that the reference alone
taught, out of fold there: the policy's own predictions of what it was trained on would
flatter it. Latencies are held against the policy's, costs against its models' prices, or
where no tokens were reported against what it foretells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

import numpy as np
import pyarrow as pa

from router.bundle.loader import load_archive
from router.loading import bind, learned
from router.policy.embedding import Embedder
from router.policy.policy import Policy
from router.types import Catalog, Floats, Mask, Model, PolicyRecord
from training.drift.search import Asked, Drift, compare
from training.drift.windows import Outcomes, Queries, Window
from training.gate.rewards import FOLDS, corrected
from training.learning.decided import predicted
from training.log.dataset import Dataset, Indices, floats, microseconds, propensity_weights
from training.log.splits import folds
from training.scores.covariates import arm_keys

MOST_BEFORE, MOST_NOW = 20_000, 5_000
_HOUR = timedelta(hours=1)
_HOUR_US = 3_600_000_000


@dataclass(frozen=True, kw_only=True)
class Active:
    """The policy that serves, over its own arms, with the models as they were at training.

    `watermark` is the newest time in what it learnt from.
    """

    policy: Policy
    models: Sequence[Model]
    embedder: Embedder
    watermark: datetime
    promoted_at: datetime

    @classmethod
    def of(
        cls, record: PolicyRecord, archive: bytes, trusted: Mapping[str, bytes], embedder: Embedder
    ) -> Self | None:
        """A registered policy; None where it does not tell what it learnt from.

        Raises BundleRefused.
        """
        watermark, since = record.summary.get("watermark"), record.promoted_at
        if watermark is None or since is None:
            return None
        bundle = load_archive(archive, trusted=trusted)
        manifest = bundle.manifest
        own = Catalog(models=manifest.models, arms=manifest.arms)
        return cls(
            policy=bind(learned(bundle, embedder), own, record.version),
            models=manifest.models,
            embedder=embedder,
            watermark=datetime.fromisoformat(watermark),
            promoted_at=since,
        )

    def look(self, now: datetime) -> int:
        """The number of a comparison at `now`, of one an hour since it began to serve."""
        return 1 + max((now - self.promoted_at) // _HOUR, 0)


def since_trained(log: pa.Table, active: Active, *, now: datetime, seed: int = 0) -> Drift | None:
    """Compares the newest rows of a log with those that the policy learnt from.

    None where either of them are none.
    """
    at = microseconds(log)
    newer = at > int(active.watermark.timestamp() * 1e6)
    known, fresh = np.flatnonzero(~newer), np.flatnonzero(newer)
    if not (len(known) and len(fresh)):
        return None
    drawn = np.random.default_rng(seed).permutation(known)[:MOST_BEFORE]
    last = fresh[np.argsort(at[fresh], kind="stable")[-MOST_NOW:]]
    part = log.take(np.concatenate((np.sort(drawn), np.sort(last))))
    current = np.arange(len(part)) >= len(drawn)
    both = _Seen.of(part, active, current)
    asked = Asked(look=active.look(now), seed=seed)
    return compare(both.window(~current), both.window(current), both.dataset.arms, asked)


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """The rows of both windows: queries by decision, and the outcome of each row."""

    dataset: Dataset
    queries: Queries
    outcomes: Outcomes

    @classmethod
    def of(cls, part: pa.Table, active: Active, current: Mask) -> _Seen:
        dataset = Dataset.from_table(part)
        policy, texts = active.policy, part["query"].to_pylist()
        vectors = active.embedder.encode_many(texts).vectors.astype(np.float64)
        place = {arm.key: number for number, arm in enumerate(dataset.arms)}
        arm = np.array([place[key] for key in arm_keys(part)], np.intp)
        score, foretold = floats(part, "score"), _Foretold.of(part, policy)
        found = Outcomes(
            query=_decisions(part),
            arm=arm,
            score=score,
            accuracy=_expected(score, arm, vectors, texts, current),
            weight=propensity_weights(floats(part, "propensity")),
            cost_usd=floats(part, "cost_usd"),
            catalog_usd=_catalog_usd(part, active.models, foretold.cost_usd),
            latency_s=floats(part, "latency_s"),
            latency_p50_s=foretold.p50_s,
            latency_p95_s=foretold.p95_s,
            hour=microseconds(part) // _HOUR_US,
        )
        queries = Queries(texts=texts, vectors=vectors, subject=_subjects(part))
        return cls(dataset=dataset, queries=queries, outcomes=found)

    def window(self, rows: Mask) -> Window:
        """What was asked and what came of it in the rows of a mask."""
        first, query = np.unique(self.outcomes.query[rows], return_inverse=True)
        own = {name: getattr(self.outcomes, name) for name in Outcomes.__dataclass_fields__}
        told = {name: values[rows] for name, values in own.items()} | {"query": query}
        return Window(queries=self.queries.take(first), outcomes=Outcomes(**told))


def _decisions(part: pa.Table) -> Indices:
    """The first row (n,) of each row's decision, or of its query where nobody decided."""
    names = zip(part["decision_id"].to_pylist(), part["query_id"].to_pylist(), strict=True)
    first: dict[str, int] = {}
    named = [decision or query for decision, query in names]
    return np.array([first.setdefault(name, row) for row, name in enumerate(named)], np.intp)


def _subjects(part: pa.Table) -> Indices | None:
    """Who asked (n,), each for themselves where nobody is named; None without any name."""
    people = part["subject"].to_pylist()
    if not any(people):
        return None
    names = [each or f"row {row}" for row, each in enumerate(people)]
    return np.asarray(np.unique(np.array(names, object), return_inverse=True)[1], np.intp)


def _expected(
    score: Floats, arm: Indices, vectors: Floats, texts: Sequence[str], current: Mask
) -> Floats:
    """What the reference lets expect of each row (n,), which none of its fold has taught."""
    taught = np.where(current, np.nan, score)
    known = ~np.isnan(taught)
    if not known.any():
        return np.full(len(score), np.nan)
    arms = int(arm.max()) + 1
    usual = float(taught[known].mean())
    count, total = (np.bincount(arm[known], w, arms) for w in (None, taught[known]))
    mean = (total + usual) / (count + 1.0)
    fold = np.where(current, FOLDS, folds(texts, FOLDS))
    found = corrected(np.tile(mean, (len(score), 1)), taught, arm, vectors, fold)
    return np.asarray(np.clip(found[np.arange(len(arm)), arm], 0.0, 1.0))


@dataclass(frozen=True, kw_only=True)
class _Foretold:
    """What the policy foretells of each row's arm, (n,); NaN of an arm that it lacks."""

    cost_usd: Floats
    p50_s: Floats
    p95_s: Floats

    @classmethod
    def of(cls, part: pa.Table, policy: Policy) -> _Foretold:
        texts = part["query"].to_pylist()
        different = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        known = predicted(policy, list(different))
        place = {arm.key: number for number, arm in enumerate(policy.arms)}
        found = np.full((len(texts), 3), np.nan)
        for row, (text, key) in enumerate(zip(texts, arm_keys(part), strict=True)):
            if key in place:
                told, arm = known[different[text]].predictions, place[key]
                found[row] = told.cost_usd[arm], told.latency_p50_s[arm], told.latency_p95_s[arm]
        return cls(cost_usd=found[:, 0], p50_s=found[:, 1], p95_s=found[:, 2])


def _catalog_usd(part: pa.Table, models: Sequence[Model], expected_usd: Floats) -> Floats:
    """What each row's tokens cost by the models' prices, (n,); without tokens what is expected."""
    prices = {each.name: (each.input_usd_per_mtok, each.output_usd_per_mtok) for each in models}
    unknown = (np.nan, np.nan)
    told = np.array([prices.get(name, unknown) for name in part["model"].to_pylist()]) / 1e6
    given, taken = floats(part, "input_tokens"), floats(part, "output_tokens")
    counted = given * told[:, 0] + taken * told[:, 1]
    return np.where(np.isnan(counted), expected_usd, counted)
