"""Policies that a server can serve: real features and a small booster."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import lightgbm
import numpy as np

from router.bundle.archive import pack
from router.bundle.embedder import describe_embedder, load_embedder
from router.bundle.writer import write
from router.policy.arms import describe
from router.policy.calibration import Calibration
from router.policy.evidence import EvidenceModel
from router.policy.features import ROW_FEATURES, TEXT_FEATURES, FeatureSpec
from router.policy.signals import SIGNALS, SignalArrays
from router.policy.spending import COST, OUTPUT, SpendingArrays
from router.policy.tradeoff import CONTINUED, Tradeoff
from router.policy.words import BUCKETS
from router.types import Catalog, Floats
from tests.kit.bundles import KEY, NOW

COMPONENTS = 24


@cache
def features() -> FeatureSpec:
    """A projection to a few random directions."""
    embedder, rng = load_embedder(), np.random.default_rng(7)
    return FeatureSpec(
        embedder=embedder.name,
        embedder_digest=embedder.digest,
        mean=np.zeros(embedder.dimensions),
        components=rng.normal(size=(COMPONENTS, embedder.dimensions)),
        bounds=np.array([[-1e9], [1e9]]),
    )


def bundle(
    catalog: Catalog,
    *,
    mean_cost_usd: float = 1e-3,
    trees: int = 10,
    leaves: int = 7,
    landmarks: int = 16,
) -> bytes:
    """An archive signed by the kit's key; every arm is predicted to cost `mean_cost_usd`."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name) / "bundle"
        text, rows, raw = _train(catalog, trees, leaves)
        write(
            directory,
            embedder=describe_embedder(load_embedder()),
            feature_names=features().names,
            features_digest=features().digest,
            arms=catalog.arms,
            models=catalog.models,
            training={"rows": len(rows)},
            booster_text=text,
            arrays=_arrays(catalog, mean_cost_usd, landmarks),
            golden_rows=rows[:32],
            golden_raw=raw[:32],
            key=KEY,
            now=NOW,
        )
        return pack(directory)


def _train(catalog: Catalog, trees: int, leaves: int) -> tuple[str, Floats, Floats]:
    rng, place = np.random.default_rng(3), len(TEXT_FEATURES)
    seen = rng.normal(size=(300, place + len(SIGNALS)))
    described = [
        describe(arm, catalog.model(arm.model), index=index, mean_accuracy=0.5, mean_cost_usd=1e-3)
        for index, arm in enumerate(catalog.arms)
    ]
    rows = np.vstack([np.hstack((seen, np.tile(row, (len(seen), 1)))) for row in described])
    logit = 0.5 * rows[:, 0] + 0.4 * rows[:, ROW_FEATURES.index("arm_tier")] - 0.5
    data = lightgbm.Dataset(rows, 1 / (1 + np.exp(-logit)), feature_name=list(ROW_FEATURES))
    params = {
        "objective": "cross_entropy",
        "num_leaves": leaves,
        "num_threads": 1,
        "verbose": -1,
        "seed": 1,
    }
    booster = lightgbm.train(params, data, trees)
    raw = np.asarray(booster.predict(rows[:32], raw_score=True, num_threads=1))
    return booster.model_to_string(), rows, raw


def _signals(arms: int, landmarks: int) -> SignalArrays:
    """Landmarks around which some arms did better than others."""
    rng, columns = np.random.default_rng(5), len(features().context_names)
    scale = np.full(columns, 0.1)
    return SignalArrays(
        center=np.zeros(columns),
        scale=scale,
        limit=np.full(columns, 1.0),
        landmarks=0.3 * rng.normal(size=(landmarks, columns)),
        bandwidth=np.array(1.0),
        mean=np.array(0.5),
        base=np.full(arms, 0.5),
        kernel=0.02 * rng.normal(size=(landmarks, 1 + arms)),
        probe=0.02 * rng.normal(size=(1 + columns, 1 + arms)),
        words=0.1 * rng.normal(size=(BUCKETS, 1 + arms)),
        rarity=np.full(BUCKETS, 4.0),
        sums=rng.normal(size=(landmarks, arms)),
        counts=np.full((landmarks, arms), 3.0),
        shrinkage=np.array(1.0),
        weights=np.full(len(SIGNALS), 0.2),
        intercepts=np.zeros(arms),
    )


def _spending(arms: int, mean_cost_usd: float) -> SpendingArrays:
    weights = np.zeros((arms, 4, 1 + len(features().context_names)))
    weights[:, OUTPUT, 0], weights[:, COST, 0] = np.log(100.0), np.log(mean_cost_usd)
    return SpendingArrays(
        weights=weights,
        bounds=np.tile(np.array([-np.inf, np.inf]), (arms, 4, 1)),
        billed_input=np.tile(np.array([0.0, 1.0]), (arms, 1)),
        billed_output=np.tile(np.array([0.0, 1.0]), (arms, 1)),
        priced=np.zeros(arms),
        latency_quantiles=np.tile(np.array([0.0, 0.5, 1.0]), (arms, 1)),
    )


def _arrays(catalog: Catalog, mean_cost_usd: float, landmarks: int) -> dict[str, Floats]:
    arms = len(catalog.arms)
    curve = Tradeoff(
        value_usd=np.logspace(-5, 1, 20),
        accuracy=np.linspace(0.4, 0.9, 20),
        cost_usd=np.logspace(-5, -2, 20),
        best_constant_accuracy=0.85,
    )
    return {
        "feature_mean": features().mean,
        "feature_components": features().components,
        "feature_bounds": features().bounds,
        "mean_accuracy": np.full(arms, 0.5),
        "mean_cost_usd": np.full(arms, mean_cost_usd),
        **_spending(arms, mean_cost_usd).to_mapping(),
        **_signals(arms, landmarks).to_mapping(),
        **_calibration(arms).to_mapping(),
        **curve.to_mapping(),
        **curve.to_mapping(CONTINUED),
        **_evidence(arms).to_mapping(),
    }


def _calibration(arms: int) -> Calibration:
    level = np.linspace(0.01, 0.99, 40)
    return Calibration(
        slope=np.array(1.0),
        offset=np.zeros(arms),
        level=level,
        below=np.full(40, 0.05),
        above=np.full(40, 0.05),
        doubt=np.zeros(arms),
    )


def _evidence(arms: int) -> EvidenceModel:
    """Confidence tells a lot of its own answer and a little of the others; 0.5 is no news."""
    knots = np.linspace(-2.0, 1.0, 31)
    return EvidenceModel(
        knots=np.tile(knots, (arms, 1)),
        scores=np.tile((knots - 0.5) / 0.4, (arms, 1)),
        expected=np.zeros((arms, 2)),
        spread=np.ones(arms),
        transfer=0.2 + 0.5 * np.eye(arms),
        likeness=0.3 + 0.7 * np.eye(arms),
    )
