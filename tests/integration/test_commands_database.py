"""The commands on a real database, and through a real server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import pytest

from router import Client, Slo, cli
from router.errors import Unauthenticated
from router.store.registry import PostgresRegistry
from router.types import Role
from tests.kit.bundles import KEY
from tests.kit.policies import catalog
from tests.kit.server import Admin, serving
from tests.kit.serving_bundles import bundle

T = TypeVar("T")
Run = Callable[..., Any]
COMMAND = Path(sys.executable).with_name("leadline")


@pytest.fixture
def run(dsn: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command on the test's database with --json; gives what it printed, or stderr."""
    monkeypatch.setenv("LEADLINE_DSN", dsn)

    def run(*arguments: str, code: int = 0) -> Any:
        assert cli.run([*arguments, "--json"]) == code, capsys.readouterr().err
        printed = capsys.readouterr()
        if code:
            assert printed.err.count("\n") == 1
            return printed.err
        return json.loads(printed.out)

    return run


def test_a_tenant_gets_keys_and_loses_them(run: Run) -> None:
    assert run("tenants", "create", "acme")["name"] == "acme"
    assert [each["name"] for each in run("tenants", "list")] == ["acme"]
    made = run("keys", "create", "acme", "--role", "admin")
    assert made["key"].startswith("ll_")
    [listed] = run("keys", "list", "acme")
    assert (listed["key_id"], listed["role"], listed["revoked_at"]) == (
        made["key_id"],
        "admin",
        None,
    )
    assert made["key"] not in json.dumps(listed)
    run("keys", "revoke", "acme", made["key_id"])
    assert run("keys", "list", "acme")[0]["revoked_at"] is not None


def test_what_is_not_there_is_said_in_one_line(run: Run) -> None:
    assert "no tenant 'nobody'" in run("keys", "list", "nobody", code=1)
    assert "no policy 7" in run("policies", "promote", "7", code=1)
    assert "no model 'm'" in run("models", "remove", "m", code=1)
    assert "no enabled arm 'm:single'" in run("arms", "disable", "m:single", code=1)
    assert "--role" in run("keys", "create", "acme", "--role", "king", code=2)


def test_an_slo_has_versions(run: Run) -> None:
    run("tenants", "create", "default")
    first = run("slos", "set", "chat", '{"min_accuracy": 0.8}')
    assert run("slos", "set", "chat", '{"min_accuracy": 0.8}')["version"] == first["version"]
    second = run("slos", "set", "chat", '{"min_accuracy": 0.9}', "--base-version", "1")
    assert second["version"] == 2
    assert run("slos", "show", "chat")["min_accuracy"] == 0.9
    assert run("slos", "show", "chat", "--version", "1")["min_accuracy"] == 0.8
    assert len(run("slos", "list")) == 1
    assert "version" in run("slos", "set", "chat", "{}", "--base-version", "1", code=1)
    assert "min_acc" in run("slos", "set", "chat", '{"min_acc": 1}', code=2)


def test_models_and_arms_come_and_go(run: Run) -> None:
    prices = ("--input", "0.15", "--output", "0.6")
    run("models", "add", "small", *prices, "--capability", "json", "--tier", "1")
    run("arms", "add", "small")
    run("arms", "add", "small", "self_consistency", "--params", '{"samples": 5}')
    keys = [arm["key"] for arm in run("arms", "list")]
    assert sorted(keys) == ["small:self_consistency?samples=5", "small:single"]
    run("arms", "disable", "small:single")
    assert len(run("arms", "list")) == 1
    run("models", "remove", "small")
    assert run("arms", "list") == []
    [model] = run("models", "list")
    assert (model["enabled"], model["capabilities"], model["tier"]) == (False, ["json"], 1)
    assert "--params" in run("arms", "add", "small", "single", "--params", "[", code=2)
    beyond = '{"samples": 1' + "0" * 400 + "}"
    assert "samples" in run("arms", "add", "small", "single", "--params", beyond, code=2)


def test_policies_are_promoted_and_rolled_back(run: Run, dsn: str) -> None:
    with Admin(dsn) as admin:
        one, two = (register(admin.registry, cost) for cost in (1e-3, 2e-3))
    assert run("policies", "promote", str(one))["state"] == "active"
    assert run("policies", "promote", str(two), "--comment", "better")["state"] == "active"
    states = {each["version"]: each["state"] for each in run("policies", "list")}
    assert states == {one: "previous", two: "active"}
    assert run("policies", "show", str(two))["summary"] == {"rows": 9}
    assert run("policies", "rollback", "--version", str(two))["version"] == one
    assert "active" in run("policies", "rollback", "--version", str(two), code=1)
    assert run("policies", "rollback") is None


def test_policies_are_tried_and_rejected(run: Run, dsn: str) -> None:
    with Admin(dsn) as admin:
        one, two = (register(admin.registry, cost) for cost in (1e-3, 2e-3))
    assert run("policies", "promote", str(one))["state"] == "active"
    for options, share in ((("--shadow",), 0.0), ((), 0.01), (("--share", "5%"), 0.05)):
        tried = run("policies", "canary", str(two), *options)
        assert (tried["state"], tried["share"]) == ("canary", share)
    assert run("policies", "show", str(two))["share"] == 0.05
    assert "canary" in run("policies", "canary", str(one), code=1)
    assert "5%" in run("policies", "canary", str(two), "--share", "most", code=2)
    assert run("policies", "reject", str(two), "--comment", "slow")["state"] == "rejected"
    assert "rollback" in run("policies", "reject", str(one), code=1)


def test_a_registered_policy_is_explained_among_the_arms_of_the_catalog(
    run: Run, dsn: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LEADLINE_STATE_DIR", str(tmp_path))
    with Admin(dsn) as admin:
        version = register(admin.registry, 1e-3)
        admin.seed(catalog(2))
        asked = ("policies", "explain", str(version), "--query", "What is 2 + 2?")
        assert "not trusted here" in run(*asked, code=1)
        admin.signing_keys.trust(KEY.key_id, KEY.public_key, actor="test")
    found = run(*asked, "--arm", "m1:single")
    assert found["policy_version"] == version
    assert found["explanation"]["arms"][-1]["arm"] == "m1:single"
    assert "no policy 99" in run("policies", "explain", "99", "--query", "x", code=1)


def register(registry: PostgresRegistry, mean_cost_usd: float, **summary: Any) -> int:
    archive = bundle(catalog(1), mean_cost_usd=mean_cost_usd)
    return registry.register(archive, {"rows": 9, **summary}, actor="test").version


def test_people_are_told_a_policys_verdict_by_its_conditions(
    dsn: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LEADLINE_DSN", dsn)
    shown = {"measured": {"p": 0.25}, "must": "p at most 0.05", "why": "chance may explain it"}
    condition = {"name": "accuracy", "held": False, **shown}
    judged = {"promote": False, "incumbent": 7, "conditions": [condition]}
    unjudged = {"promote": False, "conditions": [], "why": "too few rows"}
    with Admin(dsn) as admin:
        one = register(admin.registry, 1e-3, gate=judged)
        two = register(admin.registry, 2e-3, gate=unjudged)
    printed = []
    for version in (one, two):
        assert cli.run(["policies", "show", str(version)]) == 0
        printed.append(capsys.readouterr().out)
    assert "the gate does not let it pass: accuracy" in printed[0]
    assert "gate incumbent" in printed[0]
    assert "chance may explain it" in printed[0]
    assert "{" not in printed[0]
    assert "the gate does not let it pass: too few rows" in printed[1]


def test_people_get_tables(
    dsn: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LEADLINE_DSN", dsn)
    assert cli.run(["tenants", "create", "acme"]) == 0
    assert cli.run(["tenants", "list"]) == 0
    assert cli.run(["policies", "list"]) == 0
    printed = capsys.readouterr().out
    assert "tenant id" in printed
    assert "acme" in printed
    assert "static fallback" in printed


def test_an_unmigrated_database_is_named_and_then_upgraded(
    empty_dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["db", "status", "--dsn", empty_dsn]) == 1
    assert cli.run(["tenants", "list", "--dsn", empty_dsn]) == 1
    assert "leadline db upgrade" in capsys.readouterr().err
    for _ in range(2):
        assert cli.run(["db", "upgrade", "--dsn", empty_dsn]) == 0
    assert cli.run(["db", "status", "--dsn", empty_dsn]) == 0
    assert cli.run(["tenants", "list", "--dsn", empty_dsn]) == 0


def test_a_database_that_is_away_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["tenants", "list", "--dsn", "postgresql://localhost:1/x"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_the_embedded_database_serves_a_command_and_stops() -> None:
    # Not tmp_path: pytest closes the directory above it, which Postgres must pass.
    with TemporaryDirectory(prefix="leadline-") as state_dir:
        clean = {name: text for name, text in os.environ.items() if name != "LEADLINE_DSN"}
        done = subprocess.run(
            [COMMAND, "tenants", "list", "--json"],
            capture_output=True,
            check=True,
            env=clean | {"LEADLINE_STATE_DIR": state_dir},
        )
        assert [each["name"] for each in json.loads(done.stdout)] == ["default"]
        assert not (Path(state_dir) / "postgres/postmaster.pid").exists()


def test_the_same_commands_go_through_a_server(
    dsn: str, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Admin(dsn) as admin:
        admin.seed(catalog(1), "acme", signer=KEY)
        version = register(admin.registry, 1e-3)
        operator, caller = admin.key("acme", Role.OPERATOR), admin.key("acme")
    with serving(tmp_path, dsn, authentication="api_key") as server:
        there = ("--address", server.address)
        monkeypatch.setenv("LEADLINE_API_KEY", operator)
        assert run("slos", "set", "chat", '{"min_accuracy": 0.7}', *there)["version"] == 1
        assert run("slos", "show", "chat", *there)["min_accuracy"] == 0.7
        assert len(run("arms", "list", *there)) == 6
        assert run("policies", "canary", str(version), *there)["share"] == 0.01
        assert run("policies", "reject", str(version), *there)["state"] == "rejected"
        assert run("policies", "promote", str(version), *there)["state"] == "active"
        assert run("policies", "list", *there)[0]["version"] == version
        monkeypatch.setenv("LEADLINE_API_KEY", caller)
        assert "role" in run("policies", "rollback", *there, code=1)
        with Client(server.address) as client:
            routed = client.run("What is 2 + 2?", lambda _: "4", lambda _: 1.0, slo="chat")
            assert routed.unreported == ()
            outcomes = arrived(lambda: client.get_decision(routed.decision.decision_id).outcomes)
            assert outcomes[0].score == 1.0
        shown = run("decisions", "show", str(routed.decision.decision_id), *there)
        assert shown["outcomes"][0]["score"] == 1.0
        decision_id = str(routed.decision.decision_id)
        stored = run("decisions", "show", decision_id, "--tenant", "acme")
        assert stored["decision"]["arm"] == routed.decision.arm.key
        assert stored["outcomes"][0]["score"] == 1.0
        run("tenants", "create", "other")
        assert "no decision" in run("decisions", "show", decision_id, "--tenant", "other", code=1)


def arrived(look: Callable[[], T], patience_s: float = 10.0) -> T:
    """What `look` sees once there is something: outcomes take a moment to reach Postgres."""
    deadline = time.monotonic() + patience_s
    while not (found := look()):
        assert time.monotonic() < deadline, "nothing arrives"
        time.sleep(0.05)
    return found


@pytest.mark.timeout(60)
def test_the_installed_command_serves_until_sigterm(dsn: str, tmp_path: Path) -> None:
    with Admin(dsn) as admin:
        admin.seed(catalog(1), "acme")
        key = admin.key("acme", Role.ADMIN)
    options = ("--dsn", dsn, "--port", "0", "--state-dir", str(tmp_path), "--log-level", "error")
    process = subprocess.Popen([COMMAND, "serve", *options], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = line.split(" serves on ")[1].split()[0]
        with Client(address, api_key=key) as client:
            assert client.put_slo(Slo(name="chat", max_cost_usd=0.01)).version == 1
            first, second = client.route_batch(["What is 2 + 2?", "Why?"])
            assert getattr(first, "policy_version", None) == 0
            assert getattr(second, "arm", None) in catalog(1).arms
        with Client(address) as stranger, pytest.raises(Unauthenticated):
            stranger.route("What?")
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 0


def test_help_is_there_at_once() -> None:
    started = time.monotonic()
    done = subprocess.run([COMMAND, "--help"], capture_output=True, check=True, text=True)
    assert time.monotonic() - started < 3.0
    for name in ("serve", "decide", "replay", "train", "logs", "policies"):
        assert name in done.stdout


@pytest.mark.parametrize(
    "command",
    ["serve", "decide", "replay", "db upgrade", "keys create", "slos set", "policies promote"],
)
def test_every_command_shows_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*command.split(), "--help"]) == 0
    assert "Example: leadline" in capsys.readouterr().out


def test_the_commands_load_nothing_heavy_before_they_run() -> None:
    program = (
        "import sys; from router.cli import build; build(); heavy = "
        "('lightgbm', 'numpy', 'grpc', 'sqlalchemy', 'pyarrow', 'sklearn', 'scipy', 'matplotlib'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == b"[]"
