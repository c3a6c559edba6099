"""Real outcome logs, where they are: read in place, never copied into the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHARED_DATA = Path(os.environ.get("LEADLINE_SHARED_DATA", ROOT.parent / "shared" / "data"))


def shared(name: str) -> Path:
    """The log's path; skips the test with the reason where it is absent."""
    path = SHARED_DATA / f"{name}.parquet"
    if not path.exists():
        pytest.skip(f"{path} is absent; set LEADLINE_SHARED_DATA to the folder of real logs")
    return path
