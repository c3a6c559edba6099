"""An slo from a tenant to its decisions: warnings, versions and dry runs, by every way in."""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from router import AsyncClient, Client, cli
from router.clients import DryRun, SloWarning
from router.errors import Conflict, InvalidInput, PermissionDenied
from router.slo import OnInfeasible, Slo
from router.types import Role
from tests.kit.bundles import KEY
from tests.kit.policies import catalog
from tests.kit.postgres import PostgresServer, rows
from tests.kit.server import Admin, serving
from tests.kit.serving_bundles import bundle

DECISIONS = 40
Use = Callable[[Callable[[Any], Any]], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A server, a tenant with decisions and outcomes, and one with none."""

    address: str
    dsn: str
    keys: Mapping[Role, str]
    other: str


@pytest.fixture(scope="module")
def place(cluster: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with cluster.database() as dsn, Admin(dsn) as admin:
        admin.seed(catalog(), "acme", "other", signer=KEY)
        record = admin.registry.register(bundle(catalog()), {}, actor="test")
        admin.registry.promote(record.version, actor="test")
        keys = {role: admin.key("acme", role) for role in Role}
        other = admin.key("other", Role.ADMIN)
        directory: Path = tmp_path_factory.mktemp("slos")
        with serving(directory, dsn, authentication="api_key", exploration_rate="0.5") as server:
            here = Place(address=server.address, dsn=dsn, keys=keys, other=other)
            with client(here) as caller:
                for number in range(DECISIONS):
                    caller.run(f"What is 2 + {number}?", lambda _: "4", partial(_score, number))
            _wait(dsn)
            yield here


def _score(number: int, _answer: str) -> float:
    return number % 2


def client(place: Place, role: Role = Role.ADMIN) -> Client:
    return Client(place.address, api_key=place.keys[role], timeout_s=30.0)


def _wait(dsn: str) -> None:
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        arrived = "select count(*) from outcomes where attempt = 0"
        if rows(dsn, arrived) == rows(dsn, "select count(*) from decisions") == [(DECISIONS,)]:
            return
        time.sleep(0.1)
    pytest.fail("the log did not arrive in Postgres")


@pytest.fixture(params=["blocking", "awaiting"])
def use(request: pytest.FixtureRequest, place: Place) -> Use:
    """Runs `do(client)` with either client of an admin of acme."""

    def blocking(do: Callable[[Any], Any]) -> Any:
        with client(place) as chosen:
            return do(chosen)

    def awaiting(do: Callable[[Any], Any]) -> Any:
        async def run() -> Any:
            key = place.keys[Role.ADMIN]
            async with AsyncClient(place.address, api_key=key, timeout_s=30.0) as chosen:
                result = do(chosen)
                return await result if inspect.isawaitable(result) else result

        return asyncio.run(run())

    return blocking if request.param == "blocking" else awaiting


@pytest.fixture(params=["dsn", "server"])
def run(
    request: pytest.FixtureRequest,
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., Any]:
    """Runs a command on the database or through the server; gives its JSON, or its error."""
    direct = ("--dsn", place.dsn, "--tenant", "acme")
    where = direct if request.param == "dsn" else ("--address", place.address)
    monkeypatch.setenv("LEADLINE_API_KEY", place.keys[Role.ADMIN])

    def run(*arguments: str, code: int = 0) -> Any:
        assert cli.run([*arguments, *where, "--json"]) == code, capsys.readouterr().err
        printed = capsys.readouterr()
        return printed.err if code else json.loads(printed.out)

    return run


def test_a_dry_run_says_what_an_slo_would_have_done(use: Use) -> None:
    slo = Slo(name="new", accuracy_value_usd=1e-9)
    found: DryRun = use(lambda client: client.dry_run_slo(slo))
    rehearsal = found.rehearsal
    assert (rehearsal.decisions, found.decisions_found) == (DECISIONS, DECISIONS)
    assert (found.decisions_of, found.of_other_policies, found.warnings) == ("", 0, ())
    assert (rehearsal.infeasible_share, rehearsal.rejected_share) == (0.0, 0.0)
    assert rehearsal.changed_share is not None
    assert rehearsal.predicted is not None
    assert rehearsal.predicted.cost_usd > 0
    assert rehearsal.accuracy is not None
    assert rehearsal.accuracy.outcomes == DECISIONS
    assert rehearsal.accuracy.effective_outcomes < DECISIONS
    assert found.certifiable is None
    assert found.oldest is not None
    assert found.newest is not None
    assert found.newest - found.oldest < timedelta(minutes=10)


def test_a_dry_run_writes_nothing(use: Use) -> None:
    use(lambda client: client.dry_run_slo(Slo(name="phantom")))
    assert "phantom" not in {slo.name for slo in use(lambda client: client.list_slos())}


def test_an_slo_that_nothing_meets_is_infeasible_and_one_that_rejects_refuses(use: Use) -> None:
    slo = Slo(name="new", max_cost_usd=1e-12)
    found = use(lambda client: client.dry_run_slo(slo)).rehearsal
    assert (found.infeasible_share, found.rejected_share) == (1.0, 0.0)
    strict = Slo(name="new", max_cost_usd=1e-12, on_infeasible=OnInfeasible.REJECT)
    found = use(lambda client: client.dry_run_slo(strict)).rehearsal
    assert (found.infeasible_share, found.rejected_share) == (1.0, 1.0)
    assert (found.predicted, found.accuracy) == (None, None)


def test_the_slo_in_force_changes_no_arm(use: Use) -> None:
    found = use(lambda client: client.dry_run_slo(Slo(name="default", exploration_rate=0.5)))
    assert found.decisions_of == "default"
    assert found.rehearsal.changed_share == 0.0
    assert found.rehearsal.accuracy.support == pytest.approx(1.0, abs=1e-6)
    assert found.rehearsal.accuracy.mean == pytest.approx(0.5, abs=1e-6)


def test_a_dry_run_sees_no_other_tenants_decisions(place: Place) -> None:
    with Client(place.address, api_key=place.other, timeout_s=30.0) as other:
        found = other.dry_run_slo(Slo())
    assert (found.rehearsal.decisions, found.decisions_found, found.oldest) == (0, 0, None)
    assert found.rehearsal.predicted is None


def test_a_dry_run_looks_back_as_far_as_it_is_told(use: Use) -> None:
    found = use(lambda client: client.dry_run_slo(Slo(), window=timedelta(milliseconds=1)))
    assert found.rehearsal.decisions == 0


@pytest.mark.parametrize("days", [0, -1, 400])
def test_a_window_that_is_none_is_refused(use: Use, days: int) -> None:
    with pytest.raises(InvalidInput) as caught:
        use(lambda client: client.dry_run_slo(Slo(), window=timedelta(days=days)))
    assert caught.value.field == "window"


def test_a_dry_run_needs_the_role_that_may_write(place: Place) -> None:
    with client(place, Role.CALLER) as caller, pytest.raises(PermissionDenied):
        caller.dry_run_slo(Slo())


def test_names_that_the_catalog_does_not_have_are_warned_of(use: Use) -> None:
    slo = Slo(name="early", allowed_models=("m0", "gpt-9"), safe_arm="m0:debate")
    with pytest.warns(SloWarning) as caught:
        assert use(lambda client: client.put_slo(slo)).safe_arm == "m0:debate"
    assert [str(each.message).split(": ")[1] for each in caught] == ["allowed_models", "safe_arm"]
    assert len(use(lambda client: client.dry_run_slo(slo)).warnings) == 2


def test_a_stale_version_is_a_conflict_and_the_newest_is_not(use: Use, request: Any) -> None:
    name = f"versioned-{request.node.callspec.params['use']}"
    slo = Slo(name=name, min_accuracy=0.7)
    assert use(lambda client: client.put_slo(slo, base_version=0)).version == 1
    second = Slo(name=name, min_accuracy=0.8)
    with pytest.raises(Conflict, match="at version 1, not 0"):
        use(lambda client: client.put_slo(second, base_version=0))
    assert use(lambda client: client.put_slo(second, base_version=1)).version == 2
    assert use(lambda client: client.get_slo(name)).min_accuracy == 0.8


def test_of_writers_with_the_same_base_version_one_wins(place: Place) -> None:
    def write(number: int) -> int:
        slo = Slo(name="raced", min_accuracy=number / 10)
        try:
            with client(place) as chosen:
                return chosen.put_slo(slo, base_version=0).version
        except Conflict:
            return 0

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(write, range(1, 7))) == [0, 0, 0, 0, 0, 1]


def test_a_bad_slo_keeps_its_field_and_all_that_is_wrong_over_the_wire(use: Use) -> None:
    bad = Slo(name="bad")
    for field, value in (("max_energy_wh", -1.0), ("budget_usd_per_day", 0.0)):
        object.__setattr__(bad, field, value)
    with pytest.raises(InvalidInput) as caught:
        use(lambda client: client.put_slo(bad))
    assert caught.value.field == "max_energy_wh"
    assert "max_energy_wh: -1.0 is not a positive number" in caught.value.message
    assert "budget_usd_per_day: 0.0 is not a positive number" in caught.value.message


def test_the_command_rehearses_an_slo(run: Callable[..., Any]) -> None:
    asked = ("slos", "set", "tried", '{"min_accuracy": 0.5, "allowed_models": ["m0", "gpt-9"]}')
    found = run(*asked, "--dry-run")
    assert found["rehearsal"]["decisions"] == DECISIONS
    assert found["warnings"] == ["allowed_models: the catalog has no enabled model 'gpt-9'"]
    time.sleep(1.1)  # so that the last second has no decision
    assert run(*asked, "--dry-run", "--since", "1s")["rehearsal"]["decisions"] == 0
    assert "--since" in run(*asked, "--dry-run", "--since", "soon", code=2)
    assert "no slo 'tried'" in run("slos", "show", "tried", code=1)


def test_both_ways_of_the_command_rehearse_alike(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LEADLINE_API_KEY", place.keys[Role.ADMIN])
    found = []
    for where in (("--dsn", place.dsn, "--tenant", "acme"), ("--address", place.address)):
        body = '{"min_accuracy": 0.6, "exploration_rate": 0.1}'
        assert cli.run(["slos", "set", "x", body, "--dry-run", *where, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1]


def test_the_command_warns_and_checks_versions(
    run: Callable[..., Any], request: pytest.FixtureRequest
) -> None:
    name = f"command-{request.node.callspec.params['run']}"
    written = run("slos", "set", name, '{"allowed_regions": ["mars"]}', "--base-version", "0")
    assert written["version"] == 1
    assert written["warnings"] == ["allowed_regions: the catalog has no model in the region 'mars'"]
    assert "at version 1" in run("slos", "set", name, "{}", "--base-version", "0", code=1)
    assert run("slos", "set", name, "{}", "--base-version", "1")["version"] == 2
    bad = run("slos", "set", name, '{"max_energy_wh": 0, "usd_per_kgco2e": -1}', code=2)
    assert "max_energy_wh" in bad
    assert "usd_per_kgco2e" in bad


def test_people_read_a_rehearsal_as_a_table(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["slos", "set", "x", '{"max_cost_usd": 1e-12}', "--dry-run", "--dsn", place.dsn]
    assert cli.run([*asked, "--tenant", "acme"]) == 0
    printed = capsys.readouterr().out
    assert "no arm meets it: 100.0% of the decisions" in printed
    assert "under the slo" in printed
    assert cli.run([*asked, "--tenant", "other"]) == 0
    assert "there are no decisions of the last 7d" in capsys.readouterr().out


def test_people_see_warnings_beside_what_was_written(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["slos", "set", "seen", '{"excluded_models": ["gpt-9"]}', "--dsn", place.dsn]
    assert cli.run([*asked, "--tenant", "other"]) == 0
    printed = capsys.readouterr()
    assert "seen version 1" in printed.out
    assert "warning: excluded_models: the catalog has no enabled model 'gpt-9'" in printed.err
