"""From attempts and what was reported of them to a log that teaches: one score and one weight each.

attempts x reports -> failed ones apart -> scores that were due -> what the sources say together
                   -> what each scored answer stands for -> rows of the outcome log

An error of the backend is never a wrong answer, an answer that is too young never an
unscored one. A source's scores count once the answer is so old that hardly any of its
scores are still to come, lest those that come quickly speak for the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from router.policy.embedding import Embedder
from router.store.attempts import SCHEMA
from router.types import Floats, Mask
from training.learning.threads import one_thread
from training.log.dataset import Indices
from training.log.rows import SCHEMA as LOG
from training.log.sources import Log, from_batches
from training.log.splits import folds
from training.scores.attempts import Attempts
from training.scores.covariates import Covariates, arm_keys, covariates
from training.scores.reliability import Reconciled, reconcile
from training.scores.response import Response, bounded, level, out_of_fold, respond

MOST_UNSCORED = 50_000
"""Of more unscored answers a sample tells as well who is scored."""

_FOLDS, _FEW = 5, 0.9
_FIGURES = ("cost_usd", "latency_s", "input_tokens", "output_tokens", "confidence")


@dataclass(frozen=True, kw_only=True)
class Settled:
    """A log with `score` and `score_weight`, and what was made of the reports behind it."""

    log: Log
    summary: Mapping[str, Any]


@one_thread()
def settle(
    batches: Iterable[pa.RecordBatch], *, now: datetime, embedder: Embedder, seed: int = 0
) -> Settled:
    """Makes the log that training reads of the batches of `router.store.attempts`.

    The same batches, `now` and seed give the same log. Rows that cannot teach, as those whose
    text was erased, are left out and counted. Raises InvalidInput when no row is left.
    """
    table = pa.Table.from_batches(batches, SCHEMA)
    attempts = Attempts.of(table, now)
    standing = _Standing.of(attempts)
    made = _targets(table, attempts, standing, embedder, seed)
    log = from_batches(_rows(table, made).to_batches(), skip_bad_rows=True)
    return Settled(log=log, summary=_summary(table, attempts, standing, made))


@dataclass(frozen=True, kw_only=True)
class _Standing:
    """Where n attempts stand: which sources (n, k) had their time, and what counts of them.

    `asked` (n,) are answers of our own that some source had the time to score; `young` are
    those that none had yet, but will.
    """

    ripe_s: Floats
    due: Mask
    scores: Floats
    asked: Mask
    young: Mask

    @classmethod
    def of(cls, attempts: Attempts) -> _Standing:
        """Finds out which scores count."""
        ripe_s, answered = attempts.ripe_after_s(), attempts.answered
        due = attempts.age_s[:, None] >= ripe_s
        counts = (due & answered[:, None]) | (attempts.imported & ~attempts.failed)[:, None]
        expected = np.isfinite(ripe_s).any(axis=1)
        return cls(
            ripe_s=ripe_s,
            due=due,
            scores=np.where(counts, attempts.scores, np.nan),
            asked=answered & due.any(axis=1),
            young=answered & expected & ~due.any(axis=1),
        )

    @property
    def scored(self) -> Mask:
        """Attempts with a score that counts, (n,)."""
        return np.asarray(~np.isnan(self.scores).all(axis=1))


@dataclass(frozen=True, kw_only=True)
class _Targets:
    """Scores and weights (n,) of all attempts, NaN where there is none, and what made them.

    `expected` are the scores that the covariates let expect, `part` the attempts that all
    this was learnt from, each of which stands for `counts` of them.
    """

    score: Floats
    weight: Floats
    expected: Floats
    probability: Floats
    counts: Floats
    part: Indices
    reconciled: Reconciled
    response: Response
    figures: tuple[str, ...]


def _targets(
    table: pa.Table, attempts: Attempts, standing: _Standing, embedder: Embedder, seed: int
) -> _Targets:
    part, counts = _part(standing, seed)
    scored, asked, rows = standing.scored[part], standing.asked[part], table.take(part)
    known = Covariates(columns=np.zeros((len(part), 1)), figures=())
    if scored.any() and (not scored.all() or len(attempts.sources) > 1):
        known = covariates(
            rows,
            attempts.take(part),
            due=standing.due[part],
            scored=scored,
            embedder=embedder,
            seed=seed,
        )
    fold = folds(rows["query"].fill_null("").to_pylist(), _FOLDS, seed)
    reconciled = reconcile(attempts.sources, standing.scores[part], known.columns)
    response = respond(known.columns[asked], scored[asked], fold[asked], counts[asked])
    probability = np.ones(len(part))
    probability[asked] = response.probability
    stands_for = bounded((reconciled.information / probability)[scored])
    expected = (
        out_of_fold(known.columns, reconciled.score, fold, counts, scored)
        if scored.any()
        else np.full(len(part), np.nan)
    )
    return _Targets(
        score=_placed(reconciled.score, part, len(table)),
        weight=_placed(stands_for, part[scored], len(table)),
        expected=expected,
        probability=probability,
        counts=counts,
        part=part,
        reconciled=reconciled,
        response=response,
        figures=known.figures,
    )


def _part(standing: _Standing, seed: int) -> tuple[Indices, Floats]:
    """Every scored attempt and a sample of the answers that were not, and what each stands for."""
    unscored = np.flatnonzero(standing.asked & ~standing.scored)
    drawn = np.random.default_rng(seed).permutation(unscored)[:MOST_UNSCORED]
    part = np.sort(np.concatenate((np.flatnonzero(standing.scored), drawn)))
    thinned = len(unscored) / max(len(drawn), 1)
    return part, np.where(standing.scored[part], 1.0, thinned)


def _placed(values: Floats, where: Indices, length: int) -> Floats:
    found = np.full(length, np.nan)
    found[where] = values
    return found


def _rows(table: pa.Table, made: _Targets) -> pa.Table:
    """The outcome log's rows of all attempts of which anything is known."""
    even = np.nanmin(made.weight, initial=np.inf) >= np.nanmax(made.weight, initial=-np.inf)
    weight = np.full(len(table), np.nan) if even else made.weight
    columns = {name: table[name] for name in LOG.names if name in table.schema.names}
    columns["score"] = pa.array(made.score, from_pandas=True)
    columns["score_weight"] = pa.array(weight, from_pandas=True)
    known = ~np.isnan(made.score) | table["imported"].to_numpy()
    for name in _FIGURES:
        known |= table[name].is_valid().to_numpy()
    return pa.table(columns).filter(pa.array(known))


def _summary(
    table: pa.Table, attempts: Attempts, standing: _Standing, made: _Targets
) -> dict[str, Any]:
    scored, asked = standing.scored, standing.asked
    answers = asked | standing.young
    share = float(scored[asked].mean()) if asked.any() else None
    return {
        "attempts": len(table),
        "imported": int(attempts.imported.sum()),
        "failed": int(attempts.failed.sum()),
        "too_young": int(standing.young.sum()),
        "scored": int(scored.sum()),
        "never_scored_slos": int((attempts.answered & ~answers).sum()),
        "scored_share": share,
        "effective_scored": _effective(made.weight[scored]),
        "response_auc": made.response.auc,
        "known_of_every_answer": list(made.figures),
        "sources": [asdict(each) for each in made.reconciled.sources],
        "ripe_after_s": _longest(attempts.sources, standing.ripe_s),
        "arms": _levels(table.take(made.part), made, asked[made.part]),
        "cautions": list(_cautions(share, made)),
    }


def _effective(weight: Floats) -> float:
    squares = float(np.square(weight).sum())
    return float(weight.sum()) ** 2 / squares if squares else 0.0


def _longest(sources: tuple[str, ...], ripe_s: Floats) -> dict[str, float]:
    """The longest time that each source is given under any slo."""
    finite = np.where(np.isfinite(ripe_s), ripe_s, -1.0).max(axis=0, initial=-1.0)
    return {
        source: float(longest)
        for source, longest in zip(sources, finite, strict=True)
        if longest >= 0.0
    }


def _levels(rows: pa.Table, made: _Targets, asked: Mask) -> dict[str, Any]:
    """Per arm, the mean score of its scored answers, and of all of them, doubly robust."""
    keys = np.array(arm_keys(rows), object)
    found: dict[str, Any] = {}
    for key in sorted(set(keys[asked])):
        mine = asked & (keys == key)
        known = (made.reconciled.score, made.probability, made.expected, made.counts)
        reached = level(*(each[mine] for each in known))
        if reached is not None:
            found[key] = asdict(reached)
    return found


def _cautions(share: float | None, made: _Targets) -> Iterator[str]:
    if share is None or share >= _FEW:
        return
    if made.response.auc is None:
        yield (
            f"only {made.response.scored} answers were scored, so nothing is known of which "
            "ones are; they count the same"
        )
        return
    yield (
        "few answers are scored; where that depends on whether they are right in a way that "
        "nothing known of every answer shows, no weight can tell"
    )
    if "confidence" not in made.figures:
        yield (
            "confidence is not known of the answers that nobody scored; report it with every "
            "outcome, so that weights know it"
        )
