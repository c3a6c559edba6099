"""Whether other queries come than those that the active policy was trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import stats
from sklearn.linear_model import Ridge

from router.types import Floats, Mask
from training.drift.tests import Change, Counted, Values, least_units, mean_change, mix_changes
from training.drift.windows import Kind, Queries, Tested, Untold
from training.evaluation import topics
from training.evaluation.topics import TOPICS, Topics
from training.log.dataset import Indices

ALL = "all queries"
LEAST_UNITS = 100.0
_MOST_QUERIES = 20_000
_PENALTY = 1.0
_WORTH_NAMING = 1e-3


def learn_topics(queries: Queries, rng: np.random.Generator) -> tuple[Topics, Indices]:
    """Clusters learnt from half of the reference's subjects, and the places of all others.

    The other half alone is compared, for clusters fit those better that they were made of.
    """
    unit = np.unique(queries.unit, return_inverse=True)[1]
    chosen = rng.random(int(unit.max(initial=-1)) + 1) < 0.5
    fitted = rng.permutation(np.flatnonzero(chosen[unit]))[:_MOST_QUERIES]
    held = np.setdiff1d(np.arange(len(queries)), fitted)
    part = queries.take(np.sort(fitted))
    seed = int(rng.integers(2**31))
    made = topics.learn(part.vectors, part.texts, subject=part.subject, count=TOPICS, seed=seed)
    return made, held


def mix(
    reference: Queries, current: Queries, rng: np.random.Generator
) -> Iterator[Tested | Untold]:
    """Compares the mix of queries: all clusters together, each alone, and embeddings."""
    if min(len(reference), len(current)) < LEAST_UNITS:
        yield Untold(kind=Kind.MIX, where=ALL, why=_too_few(min(len(reference), len(current))))
        return
    made, held = learn_topics(reference, rng)
    old, new = _some(reference.take(held), rng), _some(current, rng)
    now = np.repeat((False, True), (len(old), len(new)))
    unit = np.unique(np.concatenate(_units(old, new)), return_inverse=True)[1]
    least = least_units(unit, now)
    if least < LEAST_UNITS / 2.0:
        yield Untold(kind=Kind.MIX, where=ALL, why=_too_few(least))
        return
    vectors = np.concatenate((old.vectors, new.vectors)).astype(np.float64)
    counted = Counted(of=made.of(vectors), clusters=len(made), unit=unit, now=now)
    yield from _clusters(counted, made, new)
    yield _separation(vectors, unit, now, rng)


def _too_few(least: float) -> str:
    return f"{least:.0f} independent queries in a window; {LEAST_UNITS:.0f} are needed"


def _some(queries: Queries, rng: np.random.Generator) -> Queries:
    if len(queries) <= _MOST_QUERIES:
        return queries
    return queries.take(np.sort(rng.permutation(len(queries))[:_MOST_QUERIES]))


def _units(old: Queries, new: Queries) -> tuple[Indices, Indices]:
    apart = len(old) if new.subject is None else 0
    return old.unit, new.unit + apart


def _clusters(counted: Counted, made: Topics, current: Queries) -> Iterator[Tested]:
    before, now = counted.shares()
    together, each = mix_changes(counted)
    distance = float(np.abs(now - before).sum() / 2.0)
    sizes = int((~counted.now).sum()), int(counted.now.sum())
    yield Tested(
        kind=Kind.MIX, where=ALL, change=_shifted(0.0, distance, together, sizes, error=np.nan)
    )
    names: Sequence[str] = made.names
    if np.nanmin(each, initial=1.0) < _WORTH_NAMING:
        names = _renamed(names, counted, current)
    for place in np.flatnonzero(~np.isnan(each)).tolist():
        share = float(before[place]), float(now[place])
        found = _shifted(*share, float(each[place]), sizes)
        yield Tested(kind=Kind.TOPIC, where=names[place], change=found)


def _renamed(names: Sequence[str], counted: Counted, current: Queries) -> Sequence[str]:
    """The names with the words that clusters stand out by now, as new queries may be others."""
    of = counted.of[counted.now]
    told = topics.words(of, counted.clusters, current.texts, current.subject)
    return [
        f"{each} (now: {', '.join(here)})" if here else each
        for each, here in zip(names, told, strict=True)
    ]


def _shifted(
    before: float, now: float, p_value: float, sizes: tuple[int, int], error: float | None = None
) -> Change:
    """A change of shares; where no error is given, the one that its p-value implies."""
    change = now - before
    z = float(stats.norm.isf(max(p_value, 1e-300) / 2.0))
    implied = abs(change) / z if z > 0.0 else np.inf
    return Change(
        before=before,
        now=now,
        change=change,
        error=implied if error is None else error,
        dof=np.inf,
        p_value=p_value,
        n_before=sizes[0],
        n_now=sizes[1],
    )


def _separation(
    vectors: Floats, unit: Indices, now: Mask, rng: np.random.Generator
) -> Tested | Untold:
    """A classifier two-sample test (Lopez-Paz and Oquab 2017), each half judged by the other.

    Twice the lesser p-value of both halves; a change is the AUC less 0.5.
    """
    half = (rng.random(int(unit.max()) + 1) < 0.5)[unit]
    found = [_told_apart(vectors, unit, now, train) for train in (half, ~half)]
    known = [each for each in found if each is not None]
    if len(known) < 2:
        why = "too few subjects in a half of the queries"
        return Untold(kind=Kind.SEPARATION, where=ALL, why=why)
    p_value = min(1.0, 2.0 * min(change.p_value for _, change in known))
    auc = float(np.mean([each for each, _ in known]))
    sizes = int((~now).sum()), int(now.sum())
    return Tested(
        kind=Kind.SEPARATION,
        where=ALL,
        change=_shifted(0.5, auc, p_value, sizes, error=np.nan),
    )


def _told_apart(
    vectors: Floats, unit: Indices, now: Mask, train: Mask
) -> tuple[float, Change] | None:
    test = ~train
    if least_units(unit[train], now[train]) < 2.0:
        return None
    weight = np.where(now[train], 1.0 / now[train].mean(), 1.0 / (~now[train]).mean())
    model = Ridge(alpha=_PENALTY).fit(vectors[train], now[train].astype(np.float64), weight)
    rank = stats.rankdata(model.predict(vectors[test]))
    here = now[test]
    values = Values(
        value=rank / len(rank),
        weight=np.ones(len(rank)),
        arm=np.zeros(len(rank), np.intp),
        unit=unit[test],
        now=here,
    )
    change = mean_change(values)
    if change is None:
        return None
    above = float(rank[here].sum()) - here.sum() * (here.sum() + 1) / 2.0
    return above / float(here.sum() * (~here).sum()), change
