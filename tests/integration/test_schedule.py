"""leadline schedule, and the other ways to learn every night: cron, systemd, Kubernetes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import orjson
import pytest
import yaml  # type: ignore[import-untyped]

from router.serving.ports import HeldPort
from router.store.places import OneTrainer
from router.store.training_runs import RunState
from tests.kit.commands import run
from tests.kit.nights import LEADLINE, Book, Nights, history
from training.schedule_command import daily

DEPLOY = Path(__file__).parents[2] / "deploy"
SCHEDULED = """
    import sys
    from datetime import UTC, datetime, timedelta
    from apscheduler.triggers.date import DateTrigger
    from router.commands.options import settings
    from training.schedule_command import Nights
    from training.run.supervised import until_stopped

    due = datetime.now(UTC) + timedelta(seconds=float(sys.argv[1]))
    with until_stopped(supervised=False):
        Nights(settings()).keep(DateTrigger(due))
"""


@pytest.fixture
def nights(dsn: str, tmp_path: Path) -> Nights:
    history(dsn)
    return Nights(dsn=dsn, state=tmp_path / "state")


@contextmanager
def scheduled(nights: Nights, due_s: float) -> Iterator[subprocess.Popen[bytes]]:
    told = {"LEADLINE_DSN": nights.dsn, "LEADLINE_STATE_DIR": str(nights.state)}
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCHEDULED), str(due_s)],
        env={**os.environ, **told, "LEADLINE_LOG_LEVEL": "info"},
        stderr=subprocess.PIPE,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def heard(process: subprocess.Popen[bytes], **wanted: object) -> dict[str, object]:
    """The first line of the log that has these values."""
    assert process.stderr is not None
    for line in process.stderr:
        told: dict[str, object] = orjson.loads(line) if line.startswith(b"{") else {}
        if wanted.items() <= told.items():
            return told
    raise AssertionError(f"the log ended without {wanted}")


@pytest.mark.parametrize("due_s", [1.0, -7200.0])
def test_a_night_begins_at_its_time_or_once_the_machine_is_awake(
    nights: Nights, due_s: float
) -> None:
    with scheduled(nights, due_s) as process:
        assert heard(process, event="learning ended")["status"] == 0
    assert [state for _, state, _ in Book.of(nights.dsn).runs] == [RunState.DONE]
    assert process.returncode == 0


def test_the_end_of_the_schedule_ends_its_run_which_may_be_taken_up(nights: Nights) -> None:
    with scheduled(nights, 0.0) as process:
        heard(process, step="targets")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    place = OneTrainer(nights.dsn)
    assert place.holds()
    place.close()
    assert [state for _, state, _ in Book.of(nights.dsn).runs] == [RunState.RUNNING]


def test_a_day_has_one_night_whatever_the_clocks_are_put_to() -> None:
    trigger = daily(3, 0, ZoneInfo("Europe/Berlin"))
    at, hours = datetime(2026, 3, 27, tzinfo=UTC), []
    for _ in range(4):
        found = trigger.get_next_fire_time(at, at)
        hours.append((found.day, found.astimezone(UTC).hour))
        at = found
    assert hours == [(27, 2), (28, 2), (29, 1), (30, 1)]


@pytest.mark.parametrize(
    "options", [("--at", "25:00"), ("--at", "3am"), ("--timezone", "Mars/Base")]
)
def test_a_bad_time_is_bad_usage(options: tuple[str, str]) -> None:
    found = run("schedule", *options)
    assert found.exit_code == 2
    assert options[0] in found.output


@pytest.mark.timeout(150)
def test_serve_keeps_the_time_beside_its_workers_and_tells_of_the_last_run(
    nights: Nights,
) -> None:
    nights.here()
    with HeldPort("127.0.0.1", 0) as held:
        port = held.port
    options = ["--dsn", nights.dsn, "--port", "0", "--state-dir", str(nights.state), "--no-watch"]
    options += ["--metrics-port", str(port), "--train-at", "03:00", "--authentication", "none"]
    with subprocess.Popen(
        [*LEADLINE, "serve", *options, "--log-level", "error"], stdout=subprocess.PIPE
    ) as server:
        try:
            assert server.stdout is not None
            assert b" serves on " in server.stdout.readline()
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                told = answer.read().decode()
            (scheduler,) = schedulers(server.pid)
        finally:
            server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
    assert 'leadline_training_run_state{state="done"} 1.0' in told
    assert "leadline_training_run_duration_seconds " in told
    assert not Path(f"/proc/{scheduler}").exists()


def schedulers(server: int) -> list[int]:
    """Process ids of the schedulers that a server has started."""
    children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    commands = {int(pid): Path(f"/proc/{pid}/cmdline").read_text() for pid in children}
    return [pid for pid, command in commands.items() if "\x00schedule\x00" in command]


def test_kubernetes_runs_one_job_a_night_with_the_command_as_it_is() -> None:
    job = yaml.safe_load((DEPLOY / "kubernetes" / "leadline-train.yaml").read_text())
    assert (job["kind"], job["spec"]["concurrencyPolicy"]) == ("CronJob", "Forbid")
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["leadline", "train", "--wait"]
    assert run("train", *container["args"][2:], "--help").exit_code == 0


def test_cron_has_one_line_a_night() -> None:
    lines = (DEPLOY / "cron" / "leadline-train").read_text().splitlines()
    (entry,) = [line for line in lines if line[0].isdigit()]
    assert entry.split()[:6] == ["0", "3", "*", "*", "*", "leadline"]
    command = entry.split(maxsplit=6)[6]
    assert subprocess.run(["/bin/sh", "-n", "-c", command], check=False).returncode == 0


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_systemd_takes_the_timer_and_its_service(tmp_path: Path) -> None:
    for unit in (DEPLOY / "systemd").iterdir():
        text = unit.read_text().replace("/usr/local/bin/leadline", "/bin/true")
        (tmp_path / unit.name).write_text(text)
    timer = tmp_path / "leadline-train.timer"
    found = subprocess.run(
        ["systemd-analyze", "verify", str(timer), str(tmp_path / "leadline-train.service")],
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (found.returncode, found.stderr) == (0, b"")
