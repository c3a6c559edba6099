"""Small catalogs and made-up predictions for tests of the pure policy."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from router.conditions import Backend, Conditions, MonitorState, Promise
from router.policy.standing import Standing
from router.slo import AccuracyScope, OnInfeasible, Slo
from router.types import Arm, Capability, Catalog, Floats, Model, Predictions

STRATEGIES: tuple[tuple[str, dict[str, int]], ...] = (
    ("single", {}),
    ("chain_of_thought", {"tokens": 256}),
    ("chain_of_thought", {"tokens": 1024}),
    ("chain_of_thought", {"tokens": 4096}),
    ("self_consistency", {"samples": 10}),
    ("refinement", {"rounds": 3}),
)


def catalog(models: int = 4) -> Catalog:
    """Models of rising price and tier, each with six arms; 24 arms by default."""
    described = tuple(
        Model(
            name=f"m{tier}",
            tier=tier,
            input_usd_per_mtok=0.1 * 4**tier,
            output_usd_per_mtok=0.4 * 4**tier,
            context_tokens=8_000 * 2**tier,
            capabilities=frozenset(Capability) if tier else frozenset({Capability.JSON}),
            energy_wh_per_ktok=0.1 * (tier + 1),
            grid_gco2e_per_kwh=100.0 * (tier + 1),
            cached_input_usd_per_mtok=0.01 * 4**tier if tier else None,
            region=("eu", "us")[tier % 2],
        )
        for tier in range(models)
    )
    arms = tuple(
        Arm(model=model.name, strategy=strategy, params=params)
        for model in described
        for strategy, params in STRATEGIES
    )
    return Catalog(models=described, arms=arms, revision=1)


def predictions(accuracy: Floats, cost_usd: Floats, latency_p50_s: Floats) -> Predictions:
    """Predictions whose other figures follow from these three, each of shape (a,)."""
    return Predictions(
        accuracy=accuracy,
        accuracy_low=np.maximum(accuracy - 0.05, 0),
        accuracy_high=np.minimum(accuracy + 0.05, 1),
        cost_usd=cost_usd,
        latency_p50_s=latency_p50_s,
        latency_p95_s=latency_p50_s * 2.7,
        latency_p99_s=latency_p50_s * 4.0,
        output_tokens=np.full_like(accuracy, 100.0),
        energy_wh=np.full_like(accuracy, 0.2),
    )


def standing(predicted: Predictions) -> Standing:
    """How arms of these predictions stand when nothing is out of the ordinary."""
    return Standing(predictions=predicted, weighed_usd=predicted.cost_usd)


def some_predictions(arms: int = 24) -> st.SearchStrategy[Predictions]:
    """Any predictions: ties, zeros and latencies that were never measured among them."""

    def column(low: float, high: float) -> st.SearchStrategy[Floats]:
        values = st.lists(st.floats(low, high), min_size=arms, max_size=arms)
        return values.map(np.array)

    latency = st.one_of(column(0.01, 60.0), st.just(np.full(arms, np.nan)))
    return st.builds(predictions, column(0.0, 1.0), column(0.0, 1.0), latency)


def some_slos() -> st.SearchStrategy[Slo]:
    """Any valid slo over the models of `catalog`."""
    optional = st.none() | st.floats(1e-6, 1.0)
    names = st.lists(st.sampled_from(["m0", "m1", "m2"]), max_size=2, unique=True)
    keys = st.sampled_from(["", "m3:single", "m9:single"])
    floor: st.SearchStrategy[dict[str, Any]] = st.one_of(
        st.builds(dict, min_accuracy=optional, accuracy_scope=st.sampled_from(AccuracyScope)),
        st.builds(
            dict, min_relative_accuracy=optional.filter(bool), reference_arm=keys.filter(bool)
        ),
        st.builds(dict, accuracy_value_usd=optional),
    )
    rest = st.fixed_dictionaries(
        {
            "max_cost_usd": optional,
            "max_latency_s": st.none() | st.floats(0.01, 100.0),
            "latency_quantile": st.sampled_from([0.5, 0.95, 0.99]),
            "max_energy_wh": st.none() | st.floats(0.01, 1.0),
            "usd_per_kgco2e": st.floats(0.0, 10.0),
            "excluded_models": names.map(tuple),
            "allowed_regions": st.sampled_from([(), ("eu",), ("eu", "us"), ("moon",)]),
            "excluded_regions": st.sampled_from([(), ("mars",)]),
            "excluded_strategies": st.sampled_from([(), ("refinement",)]),
            "safe_arm": keys,
            "exploration_rate": st.floats(0.0, 1.0),
            "exploration_cost_share": st.none() | st.floats(0.0, 1.0),
            "on_infeasible": st.sampled_from(OnInfeasible),
        }
    )
    return st.builds(lambda some, more: Slo(**some, **more), floor, rest)


def some_conditions() -> st.SearchStrategy[Conditions]:
    """Any conditions over the models of `catalog`."""
    promise = st.builds(
        Promise,
        certificate_id=st.just("c"),
        value_usd=st.none() | st.floats(1e-6, 10.0),
        monitor=st.sampled_from(MonitorState),
    )
    backend = st.builds(Backend, slowdown=st.floats(0.1, 20.0), available=st.booleans())
    return st.builds(
        Conditions,
        promise=st.none() | promise,
        backends=st.dictionaries(st.sampled_from(["m0", "m1", "m2", "m3", "m9"]), backend),
        cost_multiplier=st.floats(1.0, 50.0),
        budget_left_usd=st.none() | st.floats(0.0, 10.0),
    )
