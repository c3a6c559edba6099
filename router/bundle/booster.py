"""A booster that predicts through LightGBM's C interface.

The Python wrapper's `predict` takes 50 us a call to prepare what never changes here, a
third of a decision's prediction over 24 arms.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import numpy as np

from router.types import Floats

if TYPE_CHECKING:
    from lightgbm import Booster

_PARAMETERS = b"num_threads=%d"
_FLOAT64, _ROW_MAJOR, _ALL_TREES = 1, 1, -1
_NORMAL, _RAW_SCORE, _CONTRIBUTIONS = 0, 1, 3


class FlatBooster:
    """The booster's scores and what they are made of, and nothing else of it. Thread-safe."""

    def __init__(self, booster: Booster) -> None:
        """Takes over a loaded booster, which lives as long as this does."""
        from lightgbm import basic  # noqa: PLC0415 (lightgbm is heavy)

        self._booster = booster
        self._handle = booster._handle  # noqa: SLF001 (the C interface asks for it)
        self._predict = vars(basic)["_LIB"].LGBM_BoosterPredictForMat
        self.columns: int = booster.num_feature()
        self._width = ctypes.c_int32(self.columns)

    def predict(self, data: Floats, *, raw_score: bool = True, num_threads: int = 1) -> Floats:
        """The scores (n,) of rows (n, f), f the booster's columns. Raises ValueError otherwise."""
        return self._fill(data, 1, _RAW_SCORE if raw_score else _NORMAL, num_threads)[:, 0]

    def contributions(self, data: Floats, *, num_threads: int = 1) -> Floats:
        """What each column adds to the raw scores of rows (n, f), and what is expected of any row.

        The shape is (n, f + 1); a row's sum is its raw score, to rounding (TreeSHAP,
        Lundberg et al. 2020). Raises ValueError as `predict` does.
        """
        return self._fill(data, self.columns + 1, _CONTRIBUTIONS, num_threads)

    def _fill(self, data: Floats, width: int, what: int, num_threads: int) -> Floats:
        """The figures (n, width) of rows. Raises ValueError."""
        rows = np.ascontiguousarray(data, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.columns:
            raise ValueError(f"rows have shape {rows.shape}, not (n, {self.columns})")
        found = np.empty((len(rows), width))
        length = ctypes.c_int64()
        status = self._predict(
            self._handle,
            ctypes.c_void_p(rows.ctypes.data),
            _FLOAT64,
            ctypes.c_int32(len(rows)),
            self._width,
            _ROW_MAJOR,
            what,
            0,
            _ALL_TREES,
            _PARAMETERS % num_threads,
            ctypes.byref(length),
            ctypes.c_void_p(found.ctypes.data),
        )
        if status != 0 or length.value != found.size:
            raise ValueError(f"LightGBM gave {length.value} of {found.size} figures")
        return found
