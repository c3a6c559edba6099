"""leadline demo, small, as a stranger runs it: one run for all tests, and one that is stopped."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from router.cli import INTERRUPTED
from tests.kit.family import gone

LEADLINE = Path(sys.executable).with_name("leadline")
SMALL = ("--questions", "60", "--then", "20")
NAMES = ["best constant arm", "always-largest", "Leadline"]
LONGEST_S = 90


def command(directory: Path, *options: str) -> list[str]:
    return [str(LEADLINE), "demo", "--dir", str(directory), *SMALL, *options]


def interruptible(arguments: list[str]) -> list[str]:
    """The command with Ctrl-C as a terminal has it: a run in the background ignores it."""
    program = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    return [sys.executable, "-c", program, *arguments]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    directory = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        command(directory, "--json"), capture_output=True, text=True, check=False, timeout=LONGEST_S
    )
    assert done.returncode == 0, done.stderr
    return directory, done


def test_the_demo_learns_promotes_and_compares_three_ways(run: tuple[Path, Any]) -> None:
    directory, done = run
    found = json.loads(done.stdout)
    assert [way["name"] for way in found["ways"]] == NAMES
    assert {way["questions"] for way in found["ways"]} == {20}
    assert found["policy_version"] == 1
    assert sum(found["picked"].values()) == 20
    assert json.loads((directory / "result.json").read_text()) == found


def test_the_demo_says_what_each_step_brought(run: tuple[Path, Any]) -> None:
    steps = run[1].stderr
    for said in ("24 arms", "60 questions on random arms", "policy 1", "with no restart"):
        assert said in steps
    assert "The models and their answers are simulated" in steps


def test_the_demo_leaves_a_report_and_logs_and_no_process(run: tuple[Path, Any]) -> None:
    directory, done = run
    found = json.loads(done.stdout)
    assert "Accuracy against cost" in Path(found["report"]).read_text()
    logs = {path.name for path in Path(found["logs"]).iterdir()}
    assert logs >= {"provider.log", "server.log", "train.log"}
    assert_nothing_runs(directory)


def test_an_interrupted_demo_leaves_no_process_and_says_so_in_one_line(tmp_path: Path) -> None:
    with subprocess.Popen(
        interruptible(command(tmp_path / "demo")),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as demo:
        await_server(tmp_path / "demo" / "logs" / "server.out", demo)
        demo.send_signal(signal.SIGINT)
        output, errors = demo.communicate(timeout=30)
    assert demo.returncode == INTERRUPTED
    assert output == ""
    assert errors.count("leadline: interrupted") == 1
    assert errors.splitlines()[-1].startswith("leadline: interrupted; every process")
    assert "Traceback" not in errors
    assert_nothing_runs(tmp_path / "demo")


def assert_nothing_runs(directory: Path) -> None:
    state = directory / "state"
    assert gone(f"LEADLINE_STATE_DIR={state}", within_s=1)
    assert (state / "postgres" / "PG_VERSION").exists()
    assert not (state / "postgres" / "postmaster.pid").exists()


def await_server(ready: Path, demo: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + LONGEST_S
    while not (ready.is_file() and "leadline serves on" in ready.read_text()):
        assert demo.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
