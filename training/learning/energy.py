"""Energy of logged attempts: the tokens that the log counts, at what the catalog has of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import TypeAdapter, ValidationError

from router.errors import InvalidInput
from router.types import Arm, Floats, Model
from training.log.dataset import Dataset, Indices


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyRates:
    """What a token of each arm uses and emits, both (a,); NaN where the catalog has no figure."""

    wh_per_token: Floats
    gco2e_per_token: Floats

    @classmethod
    def of(cls, arms: Sequence[Arm], models: Sequence[Model]) -> Self:
        """The rates of the arms' models; a figure of 0 is one that nobody gave."""
        known = {model.name: model for model in models}
        found = [known.get(arm.model) for arm in arms]
        wh_per_token = _given([model.energy_wh_per_ktok if model else 0.0 for model in found])
        gco2e_per_wh = _given([model.grid_gco2e_per_kwh if model else 0.0 for model in found])
        return cls(wh_per_token=wh_per_token, gco2e_per_token=wh_per_token * gco2e_per_wh)

    def used(self, tokens: Floats, arms: Indices) -> tuple[Floats, Floats]:
        """Watt-hours and grams of attempts by `arms` that took so many tokens, of one shape."""
        return tokens * self.wh_per_token[arms], tokens * self.gco2e_per_token[arms]


def _given(per_thousand: Sequence[float]) -> Floats:
    values = np.array(per_thousand, np.float64)
    return np.where(values > 0.0, values / 1_000.0, np.nan)


def token_table(dataset: Dataset) -> Floats:
    """Mean input and output tokens per (query, arm), shape (q, a); NaN where not counted."""
    return dataset.table("input_tokens") + dataset.table("output_tokens")


def mean_used(
    rates: EnergyRates, tokens: Floats, arms: Indices, weight: Floats | None = None
) -> Mapping[str, float | None]:
    """Means over attempts (n,) whose tokens were counted; None where a figure is not known."""
    counted = ~np.isnan(tokens)
    if not counted.any():
        return {"energy_wh": None, "gco2e": None}
    used = rates.used(tokens[counted], arms[counted])
    shares = None if weight is None else weight[counted]
    energy_wh, gco2e = (float(np.average(each, weights=shares)) for each in used)
    return {
        "energy_wh": None if np.isnan(energy_wh) else energy_wh,
        "gco2e": None if np.isnan(gco2e) else gco2e,
    }


def read_models(path: Path) -> list[Model]:
    """The models in a file, as `leadline models list --json` prints them. Raises InvalidInput."""
    try:
        return TypeAdapter(list[Model]).validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidInput(
            f"{path.name} is no list of models ({where}: {first['msg']}); write one with "
            "'leadline models list --json'",
            field="models",
        ) from None
