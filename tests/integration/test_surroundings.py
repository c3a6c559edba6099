"""What holds around a decision is in its row and its reply, and derives it again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import pytest

from router import Client, Slo, cli
from router.conditions import Limit, MonitorState
from router.errors import NotFound
from router.types import SloStatus
from tests.integration.test_serving import eventually
from tests.kit.bundles import KEY
from tests.kit.policies import catalog
from tests.kit.postgres import PostgresServer, rows
from tests.kit.records import certificate, monitor
from tests.kit.server import Admin, serving
from tests.kit.serving_bundles import bundle

TEXTS = ("2 + 2?", "Prove that there is no largest prime.", "Écris un sonnet.", "x " * 3_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A running server of a tenant with slos, whose policy is learned."""

    admin: Admin
    client: Client
    dsn: str
    tenant_id: UUID
    policy: int


@pytest.fixture(scope="module")
def place(cluster: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with cluster.database() as dsn, Admin(dsn) as admin:
        admin.seed(catalog(), "default", signer=KEY)
        record = admin.registry.register(bundle(catalog()), {}, actor="test")
        admin.registry.promote(record.version, actor="test")
        tenant = admin.tenants.identify("default")
        assert tenant is not None
        for slo in (
            Slo(name="cheap", accuracy_value_usd=0.01, usd_per_kgco2e=1.0, exploration_rate=0.5),
            Slo(
                name="curious",
                accuracy_value_usd=0.01,
                exploration_rate=0.5,
                exploration_cost_share=0.1,
            ),
            Slo(name="floor", min_accuracy=0.6, safe_arm="m3:single"),
            Slo(name="tight", max_latency_s=2.0, max_energy_wh=0.5, allowed_regions=("eu",)),
        ):
            admin.slos.put(tenant.tenant_id, slo, base_version=None, actor="test")
        directory: Path = tmp_path_factory.mktemp("surroundings")
        with (
            serving(directory, dsn, exploration_rate="0.2") as server,
            Client(server.address, timeout_s=10.0) as client,
        ):
            yield Place(
                admin=admin,
                client=client,
                dsn=dsn,
                tenant_id=tenant.tenant_id,
                policy=record.version,
            )


def arrived(place: Place, decisions: list[UUID]) -> bool:
    known = {each for (each,) in rows(place.dsn, "select decision_id from decisions")}
    return known >= set(decisions)


@pytest.fixture
def replay(place: Place, monkeypatch: pytest.MonkeyPatch) -> Callable[[UUID], int]:
    """Derives a decision again by the command; 0 where it is the same."""
    monkeypatch.setenv("LEADLINE_DSN", place.dsn)
    return lambda decision: cli.run(["decisions", "replay", str(decision)])


def test_decisions_are_derived_again_bit_for_bit_and_what_was_changed_is_found(
    place: Place, replay: Callable[[UUID], int], capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(160):
        place.client.route(f"What is {number} + {number}?", slo="curious")
    made = [
        place.client.route(text, slo=slo, conversation_id="c", may_continue=len(text) % 2 == 0)
        for text in TEXTS
        for slo in ("", "cheap", "curious", "floor", "tight")
    ]
    decisions = [each.decision_id for each in made]
    eventually(lambda: arrived(place, decisions))
    dearer = replace(catalog().models[0], input_usd_per_mtok=9.0, output_usd_per_mtok=99.0)
    place.admin.catalog.put_model(dearer, actor="test")
    for decision in decisions:
        assert replay(decision) == 0, capsys.readouterr()
    assert capsys.readouterr().out.count("the same, bit for bit") == len(decisions)
    [(usual,)] = rows(
        place.dsn,
        "select count(*) from decisions where (conditions ->> 'mean_cost_usd')::float > 0",
    )
    assert isinstance(usual, int)
    assert usual >= len(TEXTS)
    change = f"update decisions set propensity = 0.123 where decision_id = '{decisions[0]}'"
    rows(place.dsn, change + " returning 1")
    assert replay(decisions[0]) == 1
    assert "propensity" in capsys.readouterr().out
    place.admin.catalog.put_model(catalog().models[0], actor="test")


def test_a_certificate_sets_the_trade_off_and_a_broken_floor_takes_the_safe_arm(
    place: Place,
) -> None:
    slo = place.admin.slos.get(place.tenant_id, "floor")
    body = {"status": "certified", "value_usd": 0.5}
    record = certificate(
        place.tenant_id,
        "floor",
        slo_version=slo.version,
        policy_version=place.policy,
        body=body,
    )
    place.admin.promises.write_certificate(record, actor="test")
    began = time.monotonic()
    eventually(
        lambda: place.client.route("x", slo="floor").certificate_id == str(record.certificate_id)
    )
    assert time.monotonic() - began < 10.0
    decision = place.client.route("x", slo="floor")
    assert (decision.slo_status, decision.monitor) == (SloStatus.MET, MonitorState.HOLDING)
    [listed] = place.client.list_certificates("floor")
    assert listed == place.client.get_certificate(record.certificate_id)
    assert (listed.certificate_id, dict(listed.statement)) == (record.certificate_id, body)
    with pytest.raises(NotFound, match="no certificate"):
        place.client.get_certificate(place.tenant_id)
    broken = monitor(place.tenant_id, "floor", state=MonitorState.BROKEN)
    place.admin.promises.write_monitor(broken, before=None, actor="test")
    eventually(lambda: place.client.route("x", slo="floor").monitor is MonitorState.BROKEN)
    decision = place.client.route("x", slo="floor")
    assert (decision.arm.key, decision.slo_status) == ("m3:single", SloStatus.BEST_EFFORT)
    assert [reason.limit for reason in decision.reasons if reason.binding] == [Limit.MONITOR]
    slo = place.admin.slos.put(
        place.tenant_id, replace(slo, min_accuracy=0.5), base_version=None, actor="test"
    )
    eventually(lambda: place.client.route("x", slo="floor").slo_version == slo.version)
    decision = place.client.route("x", slo="floor")
    assert (decision.arm.key, decision.certificate_id) == ("m3:single", "")
    assert [reason.limit for reason in decision.reasons if reason.binding] == [Limit.CERTIFICATE]
