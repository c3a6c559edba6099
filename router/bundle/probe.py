"""The child process that loads a booster first, so that a bad one kills no server.

Run by path, `python -I -S probe.py DIRECTORY LIBRARY COLUMNS`, with nothing imported but
the standard library: LightGBM is called through its C interface, in a fifth of the time
that its Python package takes to import. Reads accuracy.txt and rows.f64 (row-major
float64) and writes one JSON line, the raw score of every row.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
from pathlib import Path

MAX_CPU_S = 20
MAX_MEMORY_BYTES = 4 << 30
MAX_OUTPUT_BYTES = 16 << 20
TRANSIENT_EXIT = 75

_FLOAT64, _ROW_MAJOR, _RAW_SCORE = 1, 1, 1  # C_API_DTYPE_FLOAT64, -, C_API_PREDICT_RAW_SCORE


def main(directory: Path, library: str, columns: int) -> None:
    """Predicts the rows within limits on time, memory and output."""
    _limit()
    answer = os.dup(1)
    os.dup2(2, 1)  # LightGBM's own messages must not mix with the answer
    raw = _predict(directory, library, columns)
    with os.fdopen(answer, "w") as out:
        out.write(json.dumps(raw) + "\n")


def _limit() -> None:
    for what, most in (
        (resource.RLIMIT_CPU, MAX_CPU_S),
        (resource.RLIMIT_AS, MAX_MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, MAX_OUTPUT_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(ValueError, OSError):  # a stricter limit stands already
            resource.setrlimit(what, (most, most))
    signal.alarm(2 * MAX_CPU_S)


def _predict(directory: Path, library: str, columns: int) -> list[float]:
    lightgbm = ctypes.CDLL(library)
    text = (directory / "accuracy.txt").read_bytes()
    rows = (directory / "rows.f64").read_bytes()
    count = len(rows) // 8 // columns
    booster, trees, length = ctypes.c_void_p(), ctypes.c_int(), ctypes.c_int64()
    raw = (ctypes.c_double * count)()
    _check(
        lightgbm,
        lightgbm.LGBM_BoosterLoadModelFromString(text, ctypes.byref(trees), ctypes.byref(booster)),
    )
    _check(
        lightgbm,
        lightgbm.LGBM_BoosterPredictForMat(
            *(booster, rows, _FLOAT64, ctypes.c_int32(count), ctypes.c_int32(columns)),
            *(_ROW_MAJOR, _RAW_SCORE, 0, -1, b"num_threads=1", ctypes.byref(length), raw),
        ),
    )
    return list(raw)


def _check(lightgbm: ctypes.CDLL, status: int) -> None:
    if status != 0:
        lightgbm.LGBM_GetLastError.restype = ctypes.c_char_p
        sys.exit(lightgbm.LGBM_GetLastError().decode(errors="replace"))


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
    except OSError as error:
        with contextlib.suppress(OSError):
            os.write(2, str(error).encode())
        os._exit(TRANSIENT_EXIT)
