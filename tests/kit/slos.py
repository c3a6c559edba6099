"""Any valid slo, every field of it."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from router.slo import LATENCY_QUANTILES, AccuracyScope, OnInfeasible, Slo

_MODELS, _STRATEGIES = ("m0", "m1", "org/m2-1.5"), ("single", "self_consistency")
_ARMS = ("m0:single", "org/m2-1.5:self_consistency?samples=3")


@st.composite
def any_slos(draw: st.DrawFn) -> Slo:
    """Any slo that may be written, over some models, strategies and regions."""
    floor = draw(st.sampled_from(("none", "absolute", "relative", "value")))
    allowed, excluded = draw(_parted(_MODELS))
    strategies = draw(st.sampled_from(((), _STRATEGIES)))
    budgets = sorted(draw(st.lists(_positive(), min_size=3, max_size=3)))
    fields: dict[str, Any] = {
        "name": draw(st.sampled_from(("default", "chat", "batch-2"))),
        "confidence": draw(st.floats(0.5, 0.9999)),
        "max_latency_s": draw(st.none() | _positive()),
        "latency_quantile": draw(st.sampled_from(LATENCY_QUANTILES)),
        "max_cost_usd": draw(st.none() | _positive()),
        "max_energy_wh": draw(st.none() | _positive()),
        "usd_per_kgco2e": draw(st.floats(0.0, 1e6)),
        "allowed_models": allowed,
        "excluded_models": excluded,
        "allowed_regions": draw(st.sampled_from(((), ("eu-west", "us east 1")))),
        "excluded_regions": draw(st.sampled_from(((), ("mars",)))),
        "allowed_strategies": strategies,
        "excluded_strategies": () if strategies else draw(st.sampled_from(((), ("dynamic",)))),
        "exploration_rate": draw(st.floats(0.0, 1.0)),
        "exploration_cost_share": draw(st.none() | st.floats(0.0, 1.0)),
        "guarded": draw(st.booleans()),
        "on_infeasible": draw(st.sampled_from(OnInfeasible)),
        **{
            f"budget_usd_per_{period}": draw(st.sampled_from((None, budget)))
            for period, budget in zip(("hour", "day", "month"), budgets, strict=True)
        },
        **draw(_FLOORS[floor]),
    }
    if not allowed and not excluded:
        fields["safe_arm"] = draw(st.sampled_from(("", *_ARMS)))
    return Slo(**fields)


def _positive() -> st.SearchStrategy[float]:
    return st.floats(1e-9, 1e9)


def _parted(names: tuple[str, ...]) -> st.SearchStrategy[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Two lists of which none has a name of the other."""
    cut = st.integers(0, len(names))
    used = st.booleans()
    return st.tuples(cut, used, used).map(
        lambda drawn: (names[: drawn[0]] * drawn[1], names[drawn[0] :] * drawn[2])
    )


_FLOORS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "none": st.just({}),
    "absolute": st.fixed_dictionaries(
        {"min_accuracy": st.floats(0.0, 1.0), "accuracy_scope": st.sampled_from(AccuracyScope)}
    ),
    "relative": st.fixed_dictionaries(
        {"min_relative_accuracy": st.floats(0.0, 1.5), "reference_arm": st.sampled_from(_ARMS)}
    ),
    "value": st.fixed_dictionaries({"accuracy_value_usd": _positive()}),
}
