"""An slo is refused as a whole, by its fields, and means the same wherever it is read."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings

from router.clients import messages
from router.errors import InvalidInput
from router.serving import messages as edge
from router.slo import Slo
from router.v1 import catalog_pb2, slos_pb2
from tests.kit.protos import ROOT
from tests.kit.slos import any_slos

SENSELESS: list[tuple[Any, str]] = [
    ({"min_accuracy": 1.2}, "min_accuracy"),
    ({"min_accuracy": float("nan")}, "min_accuracy"),
    ({"min_accuracy": "high"}, "slo.min_accuracy"),
    ({"min_accuracy": True}, "slo.min_accuracy"),
    ({"min_relative_accuracy": 1.6, "reference_arm": "m:single"}, "min_relative_accuracy"),
    (
        {"min_relative_accuracy": 0.9, "reference_arm": "m:single", "min_accuracy": 0.9},
        "min_relative_accuracy",
    ),
    (
        {
            "min_relative_accuracy": 0.9,
            "reference_arm": "m:single",
            "accuracy_scope": "per_query",
        },
        "accuracy_scope",
    ),
    ({"min_relative_accuracy": 0.9}, "reference_arm"),
    ({"reference_arm": "m:single"}, "reference_arm"),
    ({"reference_arm": 3}, "slo.reference_arm"),
    ({"confidence": 0.3}, "confidence"),
    ({"max_cost_usd": -1}, "max_cost_usd"),
    ({"max_cost_usd": 10**400}, "slo.max_cost_usd"),
    ({"max_latency_s": 0}, "max_latency_s"),
    ({"max_latency_s": float("inf")}, "max_latency_s"),
    ({"latency_quantile": 0.9}, "latency_quantile"),
    ({"budget_usd_per_hour": 0}, "budget_usd_per_hour"),
    ({"budget_usd_per_day": -1}, "budget_usd_per_day"),
    ({"budget_usd_per_month": float("inf")}, "budget_usd_per_month"),
    ({"budget_usd_per_hour": 2, "budget_usd_per_month": 1}, "budget_usd_per_hour"),
    ({"max_energy_wh": 0}, "max_energy_wh"),
    ({"usd_per_kgco2e": -0.1}, "usd_per_kgco2e"),
    ({"usd_per_kgco2e": float("nan")}, "usd_per_kgco2e"),
    ({"accuracy_value_usd": 0}, "accuracy_value_usd"),
    ({"min_accuracy": 0.9, "accuracy_value_usd": 1}, "accuracy_value_usd"),
    ({"accuracy_scope": "mostly"}, "slo.accuracy_scope"),
    ({"accuracy_scope": ["average"]}, "slo.accuracy_scope"),
    ({"on_infeasible": "panic"}, "slo.on_infeasible"),
    ({"allowed_models": "gpt"}, "slo.allowed_models"),
    ({"allowed_models": ["a\x00b"]}, "slo.allowed_models"),
    ({"allowed_models": ["a"], "excluded_models": ["a"]}, "excluded_models"),
    ({"allowed_regions": ["a"], "excluded_regions": ["a"]}, "excluded_regions"),
    ({"allowed_strategies": ["a"], "excluded_strategies": ["a"]}, "excluded_strategies"),
    ({"safe_arm": "a:single", "excluded_strategies": ["single"]}, "safe_arm"),
    ({"allowed_regions": [1]}, "slo.allowed_regions"),
    ({"allowed_strategies": {}}, "slo.allowed_strategies"),
    ({"safe_arm": "a:single", "excluded_models": ["a"]}, "safe_arm"),
    ({"safe_arm": "a:single", "allowed_strategies": ["refinement"]}, "safe_arm"),
    ({"safe_arm": "x" * 2_001}, "slo.safe_arm"),
    ({"exploration_rate": 1.1}, "exploration_rate"),
    ({"version": 1.5}, "slo.version"),
    ({"version": -1}, "slo.version"),
    ({"max_price": 1}, "slo.max_price"),
    ([], "slo"),
]


@pytest.mark.parametrize(("value", "field"), SENSELESS)
def test_a_senseless_slo_is_refused_by_field(value: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Slo.from_mapping(value)
    assert caught.value.field == field
    assert field in caught.value.message


@pytest.mark.parametrize("text", ["{", "[" * 100_000])
def test_a_broken_slo_json_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="not JSON"):
        Slo.from_json(text)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(InvalidInput) as caught:
        Slo.from_mapping({"min_accuracy": 2, "max_energy_wh": 0, "budget_usd_per_day": -1})
    assert caught.value.field == "min_accuracy"
    assert all(name in caught.value.message for name in ("max_energy_wh", "budget_usd_per_day"))
    with pytest.raises(InvalidInput) as caught:
        Slo.from_mapping({"safe_arm": 1, "max_cost": 1, "confidence": "x"})
    assert all(name in caught.value.message for name in ("slo.max_cost:", "slo.confidence:"))


@pytest.mark.parametrize("name", [item.name for item in fields(Slo)])
def test_null_leaves_a_key_at_its_default(name: str) -> None:
    assert Slo.from_mapping({name: None}) == Slo()


@settings(deadline=None)
@given(any_slos())
def test_an_slo_survives_its_json(slo: Slo) -> None:
    assert Slo.from_json(json.dumps(slo.to_mapping())) == slo


@settings(deadline=None)
@given(any_slos())
def test_an_slo_survives_the_wire_on_both_sides(slo: Slo) -> None:
    sent = slos_pb2.Slo.FromString(messages.slo_message(slo).SerializeToString())
    assert messages.slo_of(sent) == slo
    assert edge.slo_of(sent) == slo


def test_the_version_on_the_wire_is_the_servers_alone() -> None:
    sent = messages.slo_message(Slo(version=7))
    assert messages.slo_of(sent).version == 7
    assert edge.slo_of(sent).version == 0


def test_an_empty_message_is_the_default_slo() -> None:
    assert messages.slo_of(slos_pb2.Slo()) == Slo()


def test_every_field_of_an_slo_has_one_of_its_name_on_the_wire() -> None:
    server_side = {"created_at"}
    assert {field.name for field in slos_pb2.Slo.DESCRIPTOR.fields} - server_side == {
        item.name for item in fields(Slo)
    }


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"name": ""}, "slo.name"),
        ({"accuracy_scope": 7}, "slo.accuracy_scope"),
        ({"min_relative_accuracy": 0.9}, "reference_arm"),
        ({"reference_arm": "no key at all"}, "reference_arm"),
        ({"safe_arm": "m:single?a=1&b"}, "safe_arm"),
        ({"allowed_regions": ["x" * 65]}, "allowed_regions"),
        ({"allowed_regions": ["a\nb"]}, "slo.allowed_regions"),
        ({"allowed_strategies": ["a b"]}, "allowed_strategies"),
        ({"budget_usd_per_hour": float("nan")}, "budget_usd_per_hour"),
        ({"usd_per_kgco2e": -1.0}, "usd_per_kgco2e"),
        ({"max_energy_wh": -1.0}, "max_energy_wh"),
    ],
)
def test_a_bad_slo_message_names_its_field(changed: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        edge.slo_of(slos_pb2.Slo(**{"name": "chat", **changed}))
    assert caught.value.field == field


@pytest.mark.parametrize("field", ["cached_input_usd_per_mtok", "grid_gco2e_per_kwh"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_a_bad_model_message_names_its_field(field: str, value: float) -> None:
    good: dict[str, Any] = {"name": "m", "context_tokens": 1, "max_output_tokens": 1}
    with pytest.raises(InvalidInput) as caught:
        edge.model_of(catalog_pb2.Model(**{**good, field: value}))
    assert caught.value.field == f"model.{field}"


def test_a_model_without_a_discount_is_told_from_one_that_caches_for_nothing() -> None:
    message = catalog_pb2.Model(name="m", context_tokens=1, max_output_tokens=1)
    without = edge.model_of(message)
    free = replace(without, cached_input_usd_per_mtok=0.0)
    assert without.cached_input_usd_per_mtok is None
    assert edge.model_of(messages.model_message(free)) == free


def test_the_readme_names_every_key() -> None:
    section = (ROOT / "README.md").read_text().partition("\n## Slos\n")[2].partition("\n## ")[0]
    keys = {item.name for item in fields(Slo)} - {"name", "version"}
    assert {key for key in keys if f"`{key}`" in section} == keys
