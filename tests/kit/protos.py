"""Generates router/v1 from protos/; the same command that `make protos` runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def generate(out: Path) -> None:
    """Writes the messages, services and stubs of every proto below `out`/router/v1."""
    scripts = Path(sys.executable).parent
    protos = sorted((ROOT / "protos/router/v1").glob("*.proto"))
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"-I{ROOT / 'protos'}",
            f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
            *(f"--{kind}_out={out}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")),
            *map(str, protos),
        ],
        check=True,
        capture_output=True,
    )


if __name__ == "__main__":
    generate(ROOT)
