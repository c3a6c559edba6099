"""Start, stop, crash and TLS: processes as an operator sees them."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
import urllib.request
from pathlib import Path

import grpc
import pytest

from router.slo import Slo
from router.types import Role
from router.v1 import catalog_pb2
from router.v1 import router_pb2 as pb
from tests.integration.test_serving import eventually, refused
from tests.kit.certificates import Authority, write
from tests.kit.policies import catalog
from tests.kit.postgres import PostgresServer, rows
from tests.kit.server import Admin, ServerProcess, Stubs, serving


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_start_up_that_cannot_be_is_one_loud_line(empty_dsn: str, dsn: str, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        away = f"postgresql://postgres@127.0.0.1:{free_port()}/leadline"
        attempts = {
            "leadline db upgrade": {"DSN": empty_dsn},
            f"port {port}": {"DSN": dsn, "PORT": port},
            "Postgres at 127.0.0.1": {"DSN": away},
            "mtls needs": {"DSN": dsn, "AUTHENTICATION": "mtls", "TLS_CLIENT_CA": "none.pem"},
        }
        servers = [
            ServerProcess(tmp_path / str(number), settings)
            for number, settings in enumerate(attempts.values())
        ]
        for server in servers:
            server.begin()
        for server, named in zip(servers, attempts, strict=True):
            assert server.wait() == 1
            lines = [line for line in server.log.splitlines() if line.startswith("leadline: ")]
            assert len(lines) == 1, server.log
            assert named in lines[0]
            assert "Traceback" not in server.log


def test_a_drain_under_load_loses_nothing_and_a_crashed_worker_comes_back(
    dsn: str, tmp_path: Path
) -> None:
    metrics_port = free_port()
    acknowledged: set[str] = set()
    stop = threading.Event()

    def ask(address: str) -> None:
        with Stubs(address) as stubs:
            while not stop.is_set():
                try:
                    reply = stubs.router.Route(pb.RouteRequest(text="x"), timeout=2)
                except grpc.RpcError:
                    continue
                acknowledged.add(reply.decision_id)

    with Admin(dsn) as admin:
        admin.seed(catalog(), "default")
        tenant = admin.tenants.identify("default")
        assert tenant is not None
        slo = Slo(name="chat", min_accuracy=0.5)
        admin.slos.put(tenant.tenant_id, slo, base_version=None, actor="test")
    with serving(tmp_path, dsn, workers="2", metrics_port=str(metrics_port)) as server:
        before = server.worker_pids()
        threads = [threading.Thread(target=ask, args=(server.address,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        os.kill(before[0], signal.SIGKILL)
        eventually(
            lambda: (
                len(set(server.worker_pids()) - set(before)) == 1
                and server.log.count("policy serves") == 3
            ),
            20.0,
        )
        address = f"http://127.0.0.1:{metrics_port}/metrics"
        figures = urllib.request.urlopen(address, timeout=5).read().decode()
        server.terminate()
        time.sleep(0.2)
        stop.set()
        for thread in threads:
            thread.join()
        assert server.wait() == 0
    for name in ("leadline_requests_total", "leadline_decisions_total", "leadline_shipped_rows"):
        assert name in figures
    assert "leadline_worker_restarts_total 1.0" in figures
    for name in ("leadline_floor_state", "leadline_floor_certified"):
        assert f'{name}{{slo="chat",tenant_id="{tenant.tenant_id}"}} 0.0' in figures
    arrived = {str(row[0]) for row in rows(dsn, "select decision_id from decisions")}
    assert len(acknowledged) > 50
    assert acknowledged <= arrived


def test_workers_end_when_their_supervisor_is_killed(dsn: str, tmp_path: Path) -> None:
    with Admin(dsn) as admin:
        admin.seed(catalog(), "default")
    with serving(tmp_path, dsn) as server:
        with Stubs(server.address) as stubs:
            stubs.catalog.ListArms(catalog_pb2.ListArmsRequest(), wait_for_ready=True)
        server.kill()


@pytest.fixture
def authority() -> Authority:
    return Authority()


def test_mtls_names_tenant_and_role_and_strangers_do_not_connect(
    dsn: str, tmp_path: Path, authority: Authority
) -> None:
    certificate, key = write(authority.server(), tmp_path)
    trusted = tmp_path / "ca.crt"
    trusted.write_bytes(authority.certificate)
    with Admin(dsn) as admin:
        admin.seed(catalog(), "acme")
    settings = {
        "authentication": "mtls",
        "tls_certificate": str(certificate),
        "tls_key": str(key),
        "tls_client_ca": str(trusted),
    }

    def connect(tenant: str, role: Role | str, signer: Authority = authority) -> Stubs:
        pair = signer.client(tenant, role)
        credentials = grpc.ssl_channel_credentials(
            authority.certificate, pair.key, pair.certificate
        )
        return Stubs(server.address, credentials=credentials)

    with serving(tmp_path / "state", dsn, **settings) as server:
        write_model = catalog_pb2.PutModelRequest(model=catalog_pb2.Model(name="m"))
        with connect("acme", Role.CALLER) as caller:
            assert caller.router.Route(pb.RouteRequest(text="x")).decision_id
            assert refused(lambda: caller.catalog.PutModel(write_model))[1] == "ROLE_MISSING"
        with connect("acme", Role.OPERATOR) as operator:
            answer = refused(lambda: operator.catalog.PutModel(write_model))
            assert answer[1:] == ("INVALID_FIELD", "model.context_tokens")
        for tenant, role in (("nobody", "caller"), ("acme", "emperor")):
            with connect(tenant, role) as stranger:
                answer = refused(
                    lambda stranger=stranger: stranger.router.Route(pb.RouteRequest(text="x"))  # type: ignore[misc]
                )
                assert answer[:2] == ("UNAUTHENTICATED", "UNAUTHENTICATED")
        with connect("acme", Role.CALLER, Authority("else")) as forged:
            with pytest.raises(grpc.RpcError) as caught:
                forged.router.Route(pb.RouteRequest(text="x"))
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_routing_goes_on_while_postgres_is_away(mortal: PostgresServer, tmp_path: Path) -> None:
    with mortal.database() as dsn, Admin(dsn) as admin:
        admin.seed(catalog(), "acme")
        key = admin.key("acme")
        stranger = admin.key("acme")
        with serving(tmp_path, dsn, authentication="api_key") as server:
            with Stubs(server.address, key) as stubs, Stubs(server.address, stranger) as other:
                stubs.router.Route(pb.RouteRequest(text="x"))
                mortal.stop()
                during = [stubs.router.Route(pb.RouteRequest(text="x")) for _ in range(20)]
                answer = refused(lambda: other.router.Route(pb.RouteRequest(text="x")))
                assert answer[:2] == ("UNAVAILABLE", "UNAVAILABLE")
                mortal.start()
            ids = {reply.decision_id for reply in during}

            def all_arrived() -> bool:
                found = rows(dsn, "select decision_id from decisions")
                return ids <= {str(row[0]) for row in found}

            eventually(all_arrived, 15.0)
