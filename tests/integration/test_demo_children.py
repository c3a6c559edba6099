"""Processes of the demo, on real ones: none outlives it, and a failure shows its log."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from router.errors import LeadlineError
from router.simulation.demo_children import ChildFailed, children
from tests.kit.family import alive, gone

FAILING = "import sys; print('what went wrong', file=sys.stderr); sys.exit(3)"
FAMILY = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print("ready: both", flush=True)
time.sleep(60)
"""
STARTER = """
import asyncio, sys
from pathlib import Path
from router.simulation.demo_children import children
with children(Path(sys.argv[1]), {"LEADLINE_MARK": sys.argv[2]}) as family:
    child = family.start("parent", [sys.executable, "-c", sys.argv[3]])
    print(asyncio.run(child.printed("ready: ", 10)), flush=True)
    asyncio.run(asyncio.sleep(60))
"""


async def test_a_child_that_fails_shows_the_end_of_its_log(tmp_path: Path) -> None:
    with children(tmp_path, {}) as family:
        child = family.start("trainer", [sys.executable, "-c", FAILING])
        with pytest.raises(ChildFailed, match="trainer ended with exit code 3") as caught:
            await child.ended()
    assert caught.value.last_lines == ["what went wrong"]


async def test_a_child_that_was_killed_says_by_which_signal(tmp_path: Path) -> None:
    with children(tmp_path, {}) as family:
        code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
        child = family.start("server", [sys.executable, "-c", code])
        with pytest.raises(ChildFailed, match="server ended with exit code 137"):
            await child.ended()


async def test_a_child_that_never_says_that_it_is_ready_is_not_waited_for(tmp_path: Path) -> None:
    with children(tmp_path, {}) as family:
        child = family.start("server", [sys.executable, "-c", "import time; time.sleep(60)"])
        with pytest.raises(ChildFailed, match="was not ready within 0 s"):
            await child.printed("ready", 0.2)


async def test_an_error_that_a_dead_child_explains_names_that_child(tmp_path: Path) -> None:
    with children(tmp_path, {}) as family:
        child = family.start("server", [sys.executable, "-c", FAILING])
        await asyncio.to_thread(child.guard.wait)
        with pytest.raises(ChildFailed, match="server ended"), family.blamed():
            raise LeadlineError("no server answers there")


async def test_an_error_of_another_cause_is_left_as_it_is(tmp_path: Path) -> None:
    with (
        children(tmp_path, {}) as family,
        pytest.raises(LeadlineError, match="another cause"),
        family.blamed(),
    ):
        raise LeadlineError("another cause")


async def test_children_end_with_their_own_children(tmp_path: Path) -> None:
    mark = f"{tmp_path}-ended"
    with children(tmp_path, {"LEADLINE_MARK": mark}) as family:
        child = family.start("parent", [sys.executable, "-c", FAMILY])
        assert await child.printed("ready: ", 10) == "both"
        assert len(alive(f"LEADLINE_MARK={mark}")) == 3
    assert gone(f"LEADLINE_MARK={mark}", within_s=2)


def test_children_end_when_their_starter_is_killed(tmp_path: Path) -> None:
    mark = f"{tmp_path}-killed"
    command = [sys.executable, "-c", STARTER, str(tmp_path), mark, FAMILY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "both\n"
        assert len(alive(f"LEADLINE_MARK={mark}")) == 3
        os.kill(starter.pid, signal.SIGKILL)
    assert gone(f"LEADLINE_MARK={mark}", within_s=5)
