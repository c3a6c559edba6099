"""A training run with everything that a report tells, made from drawn interactions."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from uuid import UUID

import numpy as np

from router.types import Arm, Floats, Model, PolicyState
from tests.kit.scaling import published
from training.drift.search import Drift, Finding, Severity
from training.drift.windows import Kind
from training.evaluation.logged import one_hot
from training.evaluation.slices import Facet, facet
from training.fairness.audit import audit
from training.fairness.figures import Judged
from training.gate.contest import Contest, Contestant, Held
from training.gate.facts import Bundle, Learnt, Timing
from training.gate.judge import Checks, judge
from training.log.dataset import Indices
from training.report.measured import measured
from training.report.whole import Run, Side
from training.scaling.law import scaling_laws

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ARMS = (
    Arm(model="small", strategy="single"),
    Arm(model="large", strategy="single"),
    Arm(model="large", strategy="self_consistency", params={"samples": 3}),
)
COST_USD = np.array([1e-5, 2e-4, 6e-4])
MODELS = (
    Model(name="small", input_usd_per_mtok=0.1, output_usd_per_mtok=0.4, energy_wh_per_ktok=0.2),
    Model(name="large", input_usd_per_mtok=2.0, output_usd_per_mtok=8.0, energy_wh_per_ktok=2.0),
)
VALUE_USD = 8e-4
FACETS = ("acme", "globex", "initech")


def contest(n: int = 4_000, *, ahead: float = 0.5, seed: int = 1) -> Contest:
    """Interactions of an exploring log; the candidate is as far ahead as it knows difficulty."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(size=n)
    accuracy = 1.0 / (1.0 + np.exp(1.5 * hard[:, None] - np.array([0.3, 1.8, 2.2])))
    arm = rng.integers(0, 3, n)
    score = (rng.random(n) < accuracy[np.arange(n), arm]).astype(float)
    score[rng.random(n) < 0.1] = np.nan
    held = Held(
        arm=arm,
        propensity=np.full(n, 1.0 / 3.0),
        score=score,
        cost_usd=COST_USD[arm] * np.exp(0.2 * rng.normal(size=n)),
        late=(rng.random(n) < 0.04).astype(float),
        late_allowed=np.full(n, 0.05),
        value_usd=np.full(n, VALUE_USD),
        expected_score=accuracy,
        expected_cost_usd=np.tile(COST_USD, (n, 1)),
        expected_late=np.full((n, 3), 0.04),
        facets=(tenants(hard),),
    )
    knows = Contestant(target=_picks(accuracy), accuracy=accuracy)
    blind = np.tile(accuracy.mean(axis=0), (n, 1))
    guesses = (1.0 - ahead) * accuracy + ahead * blind
    return Contest(
        held=held,
        candidate=knows,
        constant=np.full(n, 1, np.intp),
        incumbent=Contestant(target=_picks(guesses), accuracy=guesses),
    )


def tenants(hard: Floats) -> Facet:
    """Tenants by how hard their queries are."""
    return facet("tenant", [FACETS[place] for place in np.digitize(hard, (-0.6, 0.6)).tolist()])


def _picks(accuracy: Floats) -> Floats:
    return one_hot(np.asarray((VALUE_USD * accuracy - COST_USD).argmax(axis=1), np.intp), 3)


def side(version: int, **changes: object) -> Side:
    """A policy with a summary as training writes it."""
    summary = {
        "dataset_digest": f"{version:064x}",
        "rows": 1_000 * version,
        "scored_rows": 900 * version,
        "queries": 1_000 * version,
        "arms": 3,
        "watermark": NOW.isoformat(),
        "seed": 0,
        "arms_with_prior_cost": [],
        "arms_without_latency": [ARMS[2].key],
        "held_out": {
            "queries": 200 * version,
            "prediction": {"rows": 500, "ece": 0.02, "brier": 0.15, "auc": 0.81},
            "routing": {
                "how": "self-normalised inverse propensity scoring",
                "accuracy": 0.81,
                "cost_usd": 0.0002,
                "energy_wh": 0.6,
                "gco2e": None,
            },
        },
        "outcomes": {
            "attempts": 3_000,
            "scored": 300,
            "too_young": 12,
            "failed": 4,
            "imported": 0,
            "never_scored_slos": 0,
            "scored_share": 0.1,
            "effective_scored": 210.0,
            "sources": [
                {
                    "source": "judge",
                    "sensitivity": {"estimate": 0.9, "low": 0.85, "high": 0.94},
                    "specificity": {"estimate": 0.8, "low": 0.74, "high": 0.86},
                    "scored": 300,
                    "shared": 120,
                    "exact": False,
                    "learnt": True,
                }
            ],
            "cautions": ["few answers are scored"],
        },
    }
    made = Side(
        version=version,
        summary=summary,
        arms=ARMS[: version % 10],
        models=MODELS,
        bundle_sha256=f"{version:064x}",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def drift() -> Drift:
    """A moved topic and a model that lost accuracy."""
    topic = Finding(
        kind=Kind.TOPIC,
        where="topic 3: invoice, payment",
        before=0.05,
        now=0.14,
        change=0.09,
        low=0.07,
        high=0.11,
        p_value=1e-9,
        p_adjusted=1e-8,
        n_before=3_000,
        n_now=1_500,
        severity=Severity.MINOR,
    )
    lost = replace(
        topic,
        kind=Kind.ACCURACY,
        where="large",
        before=0.0,
        now=-0.06,
        change=-0.06,
        low=-0.08,
        high=-0.04,
        severity=Severity.MAJOR,
    )
    return Drift(look=2, level=0.008, findings=(lost, topic), untold=())


@cache
def run(*, ahead: float = 0.5) -> Run:
    """A run with every part; a candidate that is not ahead is kept back."""
    found = contest(ahead=ahead)
    judged = [_judged(found, each.target) for each in (found.candidate, found.incumbent) if each]
    checked = audit(judged[0], found.held.facets, incumbent=judged[1])
    checks = Checks(
        learnt=Learnt(watermark=NOW, incumbent_watermark=NOW - timedelta(days=1)),
        bundle=Bundle(verified=True),
        timing=Timing(candidate_s=0.0006, incumbent_s=0.0005),
        audit=checked,
    )
    verdict, rng = judge(found, checks), np.random.default_rng(0)
    dearer = (MODELS[0], replace(MODELS[1], input_usd_per_mtok=1.5, output_usd_per_mtok=6.0))
    return Run(
        run_id=UUID(int=7),
        started_at=NOW,
        finished_at=NOW + timedelta(seconds=312),
        candidate=side(13, models=dearer),
        state=PolicyState.CANARY if verdict.promote else PolicyState.REJECTED,
        share=0.01,
        incumbent=side(12),
        verdict=verdict,
        measured=measured(found, ARMS),
        drift=drift(),
        audit=checked,
        scaling=scaling_laws(published(300, rng), rng=rng, resamples=50),
        seed=0,
        watermark=123_456,
        versions={"leadline": "0.1.0", "lightgbm": "4.7.0"},
        stages_s={"dataset": 12.0, "judged": 100.5},
    )


def _judged(found: Contest, target: Floats) -> Judged:
    picked: Indices = target.argmax(axis=1)
    accuracy = found.held.expected_score[np.arange(len(target)), picked]
    return Judged(
        accuracy=accuracy, spend_usd=COST_USD[picked], thinking=np.array([1.0, 1.0, 24.0])[picked]
    )
