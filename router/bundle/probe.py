"""The child process that loads a booster first, so that a bad one kills no server.

Run by path, `python -I probe.py DIRECTORY`, and apart from the rest of Leadline: it
imports nothing but what predicting needs. It reads accuracy.txt and golden.safetensors
and writes one JSON line, the raw outputs of the golden rows.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
from pathlib import Path

MAX_CPU_S = 20
MAX_MEMORY_BYTES = 4 << 30
MAX_OUTPUT_BYTES = 16 << 20

_HEAVY = ("sklearn", "pandas", "matplotlib", "pyarrow", "graphviz", "dask", "cffi", "datatable")
"""What lightgbm imports when it finds it, and predicting does without; a second of it."""


def main(directory: Path) -> None:
    """Predicts the golden rows within limits on time, memory and output."""
    _limit()
    answer = os.dup(1)
    os.dup2(2, 1)  # lightgbm's own messages must not mix with the answer
    raw = _predict(directory)
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


def _predict(directory: Path) -> list[float]:
    for name in _HEAVY:
        sys.modules[name] = None  # type: ignore[assignment]
    from lightgbm import Booster  # noqa: PLC0415
    from safetensors.numpy import load_file  # noqa: PLC0415

    rows = load_file(directory / "golden.safetensors")["rows"]
    booster = Booster(model_str=(directory / "accuracy.txt").read_text("utf-8"))
    return [float(score) for score in booster.predict(rows, raw_score=True, num_threads=1)]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
