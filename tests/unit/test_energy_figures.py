"""Reported energy is the log's own tokens at the catalog's figures, and unknown without either."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from router.commands.output import to_json
from router.errors import InvalidInput
from router.types import Model
from tests.kit import logs
from tests.kit.laws import CURVE
from training.evaluation.held_out import Predicted, routing_figures
from training.learning.energy import EnergyRates, mean_used, read_models, token_table
from training.shown import tell

MODELS = (
    Model(
        name="large",
        input_usd_per_mtok=1.0,
        output_usd_per_mtok=4.0,
        energy_wh_per_ktok=2.0,
        grid_gco2e_per_kwh=500.0,
    ),
    Model(name="small", input_usd_per_mtok=0.1, output_usd_per_mtok=0.4, energy_wh_per_ktok=0.5),
)


def routing(rows: list[logs.Row], models: tuple[Model, ...], pick: str) -> dict[str, Any]:
    """Figures of a policy that always picks one model's single pass; the best is the large's."""
    dataset = logs.dataset(rows)
    keys = [arm.key for arm in dataset.arms]
    accuracy = np.array([float(key == f"{pick}:single") for key in keys])
    shape = (len(dataset.queries), len(keys))
    predicted = Predicted(accuracy=np.broadcast_to(accuracy, shape), cost_usd=np.zeros(shape))
    every = np.ones(len(dataset.queries), bool)
    rates, best = EnergyRates.of(dataset.arms, models), keys.index("large:single")
    return dict(routing_figures(dataset, every, predicted, CURVE, best, rates=rates))


def mean_tokens(rows: list[logs.Row], model: str) -> float:
    mine = [each for each in rows if (each["model"], each["strategy"]) == (model, "single")]
    return float(np.mean([each["input_tokens"] + each["output_tokens"] for each in mine]))


def test_a_decision_uses_the_tokens_of_its_attempt_at_its_models_rate() -> None:
    rows = logs.simulated(50).rows
    found = routing(rows, MODELS, "large")
    assert found["energy_wh"] == pytest.approx(mean_tokens(rows, "large") * 2.0 / 1_000)
    assert found["gco2e"] == pytest.approx(found["energy_wh"] * 0.5)
    assert found["best_constant_energy_wh"] == pytest.approx(found["energy_wh"])


def test_what_nobody_gave_is_unknown_and_not_zero() -> None:
    rows = logs.simulated(50).rows
    found = routing(rows, MODELS, "small")
    assert found["energy_wh"] == pytest.approx(mean_tokens(rows, "small") * 0.5 / 1_000)
    assert found["gco2e"] is None
    assert found["best_constant_gco2e"] > 0
    assert routing(rows, (), "small")["energy_wh"] is None
    untold = [{**row, "output_tokens": None} for row in rows]
    assert routing(untold, MODELS, "small")["energy_wh"] is None


def test_a_bandit_log_weighs_energy_by_propensity() -> None:
    rows = [row for row in logs.bandit(400).rows if row["strategy"] == "single"]
    found = routing(rows, MODELS, "small")
    mine = [row for row in rows if row["model"] == "small"]
    tokens = np.array([row["input_tokens"] + row["output_tokens"] for row in mine], float)
    weight = np.array([1 / row["propensity"] for row in mine])
    expected = np.average(tokens, weights=weight) * 0.5 / 1_000
    assert found["energy_wh"] == pytest.approx(expected)
    assert "best_constant_energy_wh" not in found


def test_attempts_whose_tokens_nobody_counted_are_left_out_of_the_mean() -> None:
    dataset = logs.simulated(30).dataset
    rates, tokens = EnergyRates.of(dataset.arms, MODELS), token_table(dataset)[:, 0]
    arms = np.zeros(len(tokens), np.intp)
    holed = np.where(np.arange(len(tokens)) < 10, np.nan, tokens)
    assert mean_used(rates, holed, arms) == mean_used(rates, tokens[10:], arms[10:])
    assert mean_used(rates, holed[:10], arms[:10]) == {"energy_wh": None, "gco2e": None}


@pytest.mark.parametrize("known", [True, False])
def test_training_tells_energy_where_it_is_known(
    capsys: pytest.CaptureFixture[str], known: bool
) -> None:
    routed = routing(logs.simulated(50).rows, MODELS if known else (), "large")
    prediction = {"rows": 1, "ece": 0.1, "ece_uncalibrated": 0.2, "brier": 0.1, "auc": None}
    held_out = {"queries": 50, "prediction": prediction, "routing": routed}
    some = {"scored_rows": 1, "queries": 1, "arms": 3, "refused_rows": 0, "duplicate_rows": 0}
    lists: dict[str, Any] = {"refused": [], "arms_with_prior_cost": []}
    tell({"version": 1, **some, **lists, "held_out": held_out, "next": "-"})
    said = capsys.readouterr().out
    assert ("Wh and" in said) is known
    assert ("gCO2e per decision" in said) is known


def test_models_are_read_as_the_catalog_prints_them(tmp_path: Path) -> None:
    file = tmp_path / "models.json"
    file.write_bytes(to_json(list(MODELS)))
    assert read_models(file) == list(MODELS)
    for broken in (
        b"{",
        b'[{"name": "small"}]',
        orjson.dumps([{**orjson.loads(to_json(MODELS[0])), "tier": "high"}]),
    ):
        file.write_bytes(broken)
        with pytest.raises(InvalidInput, match="leadline models list --json"):
            read_models(file)
