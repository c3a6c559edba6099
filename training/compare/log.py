"""The interactions that two policies are compared on: a file's, or a database's recent ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from router.policy.embedding import Embedder
from router.slo import Slo
from router.types import Arm, Floats, Mask
from training.evaluation.slices import Facet, facet, script_facet, topic_facet
from training.evaluation.topics import learn
from training.log.dataset import Dataset, Indices, floats, microseconds
from training.scores.covariates import arm_keys


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """How a bandit log's arms came about: `arm` (n,) was picked with `propensity` (n,).

    `response` (n,) is what a known score stands for.
    """

    arm: Indices
    propensity: Floats
    response: Floats | None = None

    def take(self, rows: Indices) -> Behaviour:
        """That of some interactions."""
        return Behaviour(
            arm=self.arm[rows],
            propensity=self.propensity[rows],
            response=None if self.response is None else self.response[rows],
        )


@dataclass(frozen=True, kw_only=True)
class Rewards:
    """What came of n interactions, (n,), or of every arm for n queries, (n, a).

    With a `behaviour` only the arm that was picked is known. NaN where nothing is.
    """

    score: Floats
    cost_usd: Floats
    latency_s: Floats
    behaviour: Behaviour | None = None

    def over(self, arms: int) -> Rewards:
        """The same over so many arms, the added ones of which nothing is known."""
        if self.behaviour is not None:
            return self
        width = (0, 0), (0, arms - self.score.shape[1])
        return Rewards(
            score=np.pad(self.score, width, constant_values=np.nan),
            cost_usd=np.pad(self.cost_usd, width, constant_values=np.nan),
            latency_s=np.pad(self.latency_s, width, constant_values=np.nan),
        )

    def take(self, rows: Indices) -> Rewards:
        """Those of some interactions."""
        return Rewards(
            score=self.score[rows],
            cost_usd=self.cost_usd[rows],
            latency_s=self.latency_s[rows],
            behaviour=None if self.behaviour is None else self.behaviour.take(rows),
        )


@dataclass(frozen=True, kw_only=True)
class Interactions:
    """n queries that were asked, what came of them, and how they part.

    `unseen` (n,) tells those that neither policy has learnt from. `cluster` (n,) counts who
    asked, or the text where that is not known. `slo` (n,) is a place in `slos`; None where
    every slo is asked of every query. `seen` says why some have been learnt from, `caution`
    why that cannot be known.
    """

    texts: tuple[str, ...]
    arms: tuple[Arm, ...]
    rewards: Rewards
    facets: tuple[Facet, ...]
    unseen: Mask
    cluster: Indices
    slos: tuple[tuple[str, Slo], ...]
    slo: Indices | None = None
    seen: str = ""
    caution: str = ""

    def __len__(self) -> int:
        return len(self.texts)

    def over(self, arms: tuple[Arm, ...]) -> Self:
        """The same over more arms, of which the own ones are the first."""
        return replace(self, arms=arms, rewards=self.rewards.over(len(arms)))

    def take(self, rows: Indices) -> Self:
        """Some of them."""
        texts = tuple(self.texts[place] for place in rows.tolist())
        return replace(
            self,
            texts=texts,
            rewards=self.rewards.take(rows),
            facets=tuple(replace(each, of=each.of[rows]) for each in self.facets),
            unseen=self.unseen[rows],
            cluster=self.cluster[rows],
            slo=None if self.slo is None else self.slo[rows],
        )


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """What a policy has learnt from, as its bundle says: a log's digest and its newest time."""

    digest: str | None
    watermark: datetime | None

    @classmethod
    def of(cls, summary: Mapping[str, object]) -> Self:
        """Reads the summary of a policy's training; what it does not say is None."""
        digest, told = summary.get("dataset_digest"), summary.get("watermark")
        try:
            at = datetime.fromisoformat(told) if isinstance(told, str) else None
        except ValueError:
            at = None
        known = at.replace(tzinfo=UTC) if at is not None and at.tzinfo is None else at
        return cls(digest=digest if isinstance(digest, str) else None, watermark=known)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A checked log, what both policies have learnt from, and under which slos to decide.

    `held_out` is somebody's word that neither has learnt from it. At most `most` interactions
    are taken, the newest, and of equally old ones a sample.
    """

    table: pa.Table
    learnt: tuple[Learnt, Learnt]
    slos: tuple[tuple[str, Slo], ...]
    most: int
    held_out: bool = False

    def interactions(self, embedder: Embedder, *, slo: Indices | None = None) -> Interactions:
        """The log's interactions: those with a propensity, or else queries with every arm.

        `slo` and labels go with the rows of a bandit log. Raises InvalidInput without any.
        """
        dataset = Dataset.from_table(self.table)
        seen, caution = self._seen(dataset.digest)
        if pc.any(self.table["propensity"].is_valid()).as_py():
            rows, rewards, places = self._bandit(dataset)
            slo = None if slo is None else slo[places]
        else:
            rows, rewards = self._full(dataset)
        texts = tuple(rows["query"].to_pylist())
        return Interactions(
            texts=texts,
            arms=dataset.arms,
            rewards=rewards,
            facets=_facets(rows, texts, embedder),
            unseen=self._unseen(rows) if not seen else np.zeros(len(rows), bool),
            cluster=_clusters(rows),
            slos=self.slos,
            slo=slo,
            seen=seen or self._cut_said,
            caution=caution,
        )

    def _bandit(self, dataset: Dataset) -> tuple[pa.Table, Rewards, Indices]:
        """The rows with a propensity, what came of them, and their places in the log."""
        places = np.flatnonzero(self.table["propensity"].is_valid().to_numpy())
        places = places[_newest(microseconds(self.table.take(places)), self.most)]
        rows = self.table.take(places)
        return rows, _bandit(rows, dataset.arms), places

    def _full(self, dataset: Dataset) -> tuple[pa.Table, Rewards]:
        """A row of each query, and what came of every arm."""
        rows = _last_rows(self.table, dataset.queries)
        places = _newest(microseconds(rows), self.most)
        return rows.take(places), _full(dataset).take(places)

    def _seen(self, digest: str) -> tuple[str, str]:
        """Why nothing of the log is unseen, and else why that cannot be known."""
        if digest in {each.digest for each in self.learnt}:
            return "a policy has learnt from this very log", ""
        if self.held_out:
            return "", ""
        if self._cut is None or not self._timed:
            return "", (
                "times do not tell whether a policy has learnt from these interactions; what is "
                "measured holds only where neither has"
            )
        return "", ""

    @property
    def _timed(self) -> bool:
        return bool(pc.any(self.table["occurred_at"].is_valid()).as_py())

    @property
    def _cut(self) -> datetime | None:
        """The newest time that either has learnt from; None where one does not say."""
        known = [each.watermark for each in self.learnt]
        return max(each for each in known if each) if all(known) else None

    @property
    def _cut_said(self) -> str:
        told = self._cut
        return "" if told is None else f"a policy has learnt from all that came up to {told:%F %T}"

    def _unseen(self, rows: pa.Table) -> Mask:
        cut = self._cut
        if self.held_out or cut is None or not self._timed:
            return np.ones(len(rows), bool)
        at = rows["occurred_at"].fill_null(cut)
        newer = pc.greater(at, pa.scalar(cut, pa.timestamp("us", tz="UTC")))
        return np.asarray(newer.to_numpy(), bool)


def _bandit(rows: pa.Table, arms: Sequence[Arm]) -> Rewards:
    place = {arm.key: number for number, arm in enumerate(arms)}
    score = floats(rows, "score")
    return Rewards(
        score=score,
        cost_usd=floats(rows, "cost_usd"),
        latency_s=floats(rows, "latency_s"),
        behaviour=Behaviour(
            arm=np.array([place[key] for key in arm_keys(rows)], np.intp),
            propensity=floats(rows, "propensity"),
            response=_response(floats(rows, "score_weight"), ~np.isnan(score)),
        ),
    )


def _response(weight: Floats, known: Mask) -> Floats | None:
    """What each known score stands for, so that all n rows are stood for; None where even."""
    told = known & ~np.isnan(weight)
    if not told.any():
        return None
    filled = np.where(told, weight, weight[told].mean())
    return np.where(known, np.maximum(filled * len(weight) / filled[known].sum(), 1.0), np.nan)


def _full(dataset: Dataset) -> Rewards:
    score, cost_usd, latency_s = map(dataset.table, ("score", "cost_usd", "latency_s"))
    return Rewards(score=score, cost_usd=cost_usd, latency_s=latency_s)


def _last_rows(table: pa.Table, queries: Sequence[str]) -> pa.Table:
    """The newest row of each query, in the order of the queries."""
    order = np.argsort(microseconds(table), kind="stable")
    texts = table["query"].to_pylist()
    row = {texts[place]: place for place in order.tolist()}
    return table.take(np.array([row[query] for query in queries], np.int64))


def _newest(at: Indices, most: int) -> Indices:
    """The places of the newest rows, at most so many; of equally old ones a sample."""
    if len(at) <= most:
        return np.arange(len(at))
    order = np.lexsort((np.random.default_rng(0).random(len(at)), at))
    return np.sort(order[-most:])


def _clusters(rows: pa.Table) -> Indices:
    """Who asked, or what where that is not known, counted from 0."""
    people = zip(rows["subject"].to_pylist(), rows["query"].to_pylist(), strict=True)
    units = [f"subject {who}" if who else f"text {text}" for who, text in people]
    return np.asarray(np.unique(np.array(units, object), return_inverse=True)[1], np.intp)


def _facets(rows: pa.Table, texts: Sequence[str], embedder: Embedder) -> tuple[Facet, ...]:
    """Ways to part the rows: those of which there is more than one part."""
    vectors = embedder.encode_many(texts).vectors.astype(np.float64)
    people = None if rows["subject"].null_count else _clusters(rows)
    found = [
        *(facet(name, rows[name].to_pylist()) for name in ("tenant", "dataset")),
        script_facet(texts),
        topic_facet(learn(vectors, texts, subject=people), vectors),
    ]
    return tuple(each for each in found if len(each) > 1)
