"""Energy: what arms are expected to emit, and what that costs at a price of emissions."""

from __future__ import annotations

import numpy as np

from router.policy.table import ArmTable
from router.types import Floats

_KG_PER_G = 1e-3


def emitted_gco2e(table: ArmTable, energy_wh: Floats) -> Floats:
    """What each arm emits for its energy (..., a), in grams, by the grid of its model's region."""
    return np.asarray(energy_wh * table.gco2e_per_wh)


def emission_usd(table: ArmTable, energy_wh: Floats, usd_per_kgco2e: float) -> Floats:
    """What each arm's emissions cost, (..., a); it rises with energy and with the price."""
    return np.asarray(usd_per_kgco2e * _KG_PER_G * emitted_gco2e(table, energy_wh))
