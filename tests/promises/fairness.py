"""The fairness audit holds: equal policies pass, one ruined slice does not.

Interactions are drawn with replacement from the queries of a shared table; both policies
pick one of its two best arms, and a coin says which picks which.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.stats import binom

from router.policy.arms import compute
from router.types import Floats, Mask
from tests.kit.windows import Source, shared_source
from tests.promises import Measured
from training.evaluation.slices import Facet, facet, script_facet, topic_facet
from training.evaluation.topics import Topics, learn
from training.fairness.audit import Asked, audit
from training.fairness.figures import Judged
from training.fairness.verdict import Audit
from training.log.dataset import Indices

TABLES = ("cascades", "strategies", "routellm", "mmlu_pro")
RUNS, PLANTED_RUNS = 500, 100
SIZE, PLANTED_SIZE = 2_000, 5_000
LEVEL = 0.05
LOST = 0.15


def _judged(source: Source, places: Indices, arm: Indices) -> Judged:
    spent = np.array([compute(each) for each in source.arms])
    return Judged(
        accuracy=source.score[places, arm],
        spend_usd=source.cost_usd[places, arm],
        thinking=spent[arm],
    )


def _facets(
    source: Source, topics: Topics, places: Indices, rng: np.random.Generator
) -> list[Facet]:
    tenants = rng.integers(0, 8, len(places))
    return [
        script_facet([source.texts[place] for place in places.tolist()]),
        topic_facet(topics, source.vectors[places]),
        facet("label collection", [source.kind[place] for place in places.tolist()]),
        facet("tenant", [f"tenant {place}" for place in tenants.tolist()]),
    ]


def _drawn(
    source: Source, topics: Topics, size: int, rng: np.random.Generator
) -> tuple[Judged, Judged, list[Facet]]:
    best = np.argsort(source.score.mean(axis=0))[-2:]
    places, swap = rng.integers(0, len(source.texts), size), rng.random(size) < 0.5
    one, two = (np.where(side, best[0], best[1]) for side in (swap, ~swap))
    facets = _facets(source, topics, places, rng)
    return _judged(source, places, one), _judged(source, places, two), facets


def null(name: str, runs: int = RUNS) -> float:
    """The share of equal candidates that were blocked."""
    source, rng = shared_source(name), np.random.default_rng(1)
    topics = learn(source.vectors, source.texts)
    blocked = 0
    for seed in range(runs):
        candidate, incumbent, facets = _drawn(source, topics, SIZE, rng)
        blocked += audit(candidate, facets, incumbent=incumbent, asked=Asked(seed=seed)).blocks
    return blocked / runs


def ruined(name: str, runs: int = PLANTED_RUNS) -> float:
    """The share of candidates with one slice ruined that were blocked with that slice named."""
    source, rng = shared_source(name), np.random.default_rng(2)
    topics = learn(source.vectors, source.texts)
    found = 0
    for seed in range(runs):
        candidate, incumbent, facets = _drawn(source, topics, PLANTED_SIZE, rng)
        where = rng.choice([2, 3])
        shares = np.bincount(facets[where].of) / PLANTED_SIZE
        place = int(rng.choice(np.flatnonzero(shares >= 0.05)))
        worse = _worse(candidate.accuracy, facets[where].of == place, rng)
        made = audit(
            replace(candidate, accuracy=worse), facets, incumbent=incumbent, asked=Asked(seed=seed)
        )
        found += _names(made, facets[where].names[place])
    return found / runs


def _worse(accuracy: Floats, where: Mask, rng: np.random.Generator) -> Floats:
    """The accuracies with 15 points lost within a slice."""
    lost = where & (rng.random(len(accuracy)) < LOST / max(float(accuracy[where].mean()), LOST))
    return np.asarray(np.where(lost, 0.0, accuracy))


def _names(made: Audit, name: str) -> bool:
    return made.blocks and any(each.name == name for each, _ in made.short)


def holds() -> Measured:
    """Whether equal candidates pass and ruined ones are blocked, in each table."""
    equal, spoilt = ({name: share(name) for name in TABLES} for share in (null, ruined))
    most = binom.ppf(0.99, RUNS, LEVEL) / RUNS
    told = ", ".join(f"{name} {equal[name]:.1%} and {spoilt[name]:.0%}" for name in TABLES)
    return Measured(
        figures=f"equal ones blocked, and ruined ones blocked with the slice named: {told}",
        held=max(equal.values()) <= most and min(spoilt.values()) >= 0.9,
    )


if __name__ == "__main__":
    print(holds())
