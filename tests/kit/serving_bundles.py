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
from router.policy.evidence import EvidenceModel
from router.policy.features import FeatureSpec
from router.policy.spending import COST, OUTPUT, SpendingArrays
from router.policy.tradeoff import CONTINUED, Tradeoff
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
    catalog: Catalog, *, mean_cost_usd: float = 1e-3, trees: int = 10, leaves: int = 7
) -> bytes:
    """An archive signed by the kit's key; every arm is predicted to cost `mean_cost_usd`."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name) / "bundle"
        _write(directory, catalog, mean_cost_usd, trees, leaves)
        return pack(directory)


def _write(
    directory: Path, catalog: Catalog, mean_cost_usd: float, trees: int, leaves: int
) -> None:
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
        arrays=_arrays(catalog, mean_cost_usd),
        golden_rows=rows[:32],
        golden_raw=raw[:32],
        key=KEY,
        now=NOW,
    )


def _train(catalog: Catalog, trees: int, leaves: int) -> tuple[str, Floats, Floats]:
    rng, spec = np.random.default_rng(3), features()
    contexts = rng.normal(size=(300, len(spec.context_names)))
    described = np.array(
        [
            describe(
                arm, catalog.model(arm.model), index=index, mean_accuracy=0.5, mean_cost_usd=1e-3
            )
            for index, arm in enumerate(catalog.arms)
        ]
    )
    rows = np.vstack([np.hstack((contexts, np.tile(row, (len(contexts), 1)))) for row in described])
    logit = 0.5 * rows[:, 0] + 0.4 * rows[:, len(spec.context_names) + 1] - 0.5
    data = lightgbm.Dataset(rows, 1 / (1 + np.exp(-logit)), feature_name=list(spec.names))
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


def _arrays(catalog: Catalog, mean_cost_usd: float) -> dict[str, Floats]:
    arms = len(catalog.arms)
    rising = np.linspace(-6, 6, 40)
    probability = 1 / (1 + np.exp(-rising))
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
        "calibration_scores": rising,
        "calibration_accuracy": probability,
        "calibration_low": np.maximum(probability - 0.05, 0),
        "calibration_high": np.minimum(probability + 0.05, 1),
        **curve.to_mapping(),
        **curve.to_mapping(CONTINUED),
        **_evidence(arms).to_mapping(),
    }


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
