"""A real server for tests: a supervisor and its workers, as `leadline serve` starts them."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import grpc

from router.bundle.signing import SigningKey
from router.store.catalog import PostgresCatalog
from router.store.engine import DatabaseRole, connect
from router.store.keys import SigningKeys
from router.store.promises import PostgresPromises
from router.store.registry import PostgresRegistry
from router.store.slos import PostgresSlos
from router.store.tenants import PostgresTenants
from router.types import Catalog, Role
from router.v1.catalog_pb2_grpc import CatalogStub
from router.v1.policies_pb2_grpc import PoliciesStub
from router.v1.router_pb2_grpc import RouterStub
from router.v1.slos_pb2_grpc import SlosStub

START_S = 60.0
PROGRAM = """
import sys
from router.errors import LeadlineError
from router.serving.supervisor import run
from router.settings import Settings
try:
    run(Settings())
except LeadlineError as error:
    sys.exit(f"leadline: {error.message}")
"""


@dataclass(slots=True)
class ServerProcess:
    """One supervisor. `settings` are LEADLINE_ variables without the prefix."""

    state_dir: Path
    settings: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    line: str = ""

    @property
    def address(self) -> str:
        """host:port of the workers."""
        found = re.search(r"serves on (\S+)", self.line)
        assert found is not None, self.line
        return found[1]

    @property
    def log(self) -> str:
        """What supervisor and workers have logged."""
        return (self.state_dir / "server.log").read_text()

    def start(self) -> None:
        """Starts and waits until every worker serves; fails with the log when it does not."""
        self.begin()
        assert self.process is not None
        assert self.process.stdout is not None
        if select.select([self.process.stdout], [], [], START_S)[0]:
            self.line = self.process.stdout.readline().decode().strip()
        assert self.line, self.log

    def begin(self) -> None:
        """Starts and does not wait."""
        self.state_dir.mkdir(parents=True, exist_ok=True)
        told = {"STATE_DIR": str(self.state_dir), "PORT": "0", "AUTHENTICATION": "none"}
        told |= self.settings
        clean = {key: text for key, text in os.environ.items() if not key.startswith("LEADLINE_")}
        with (self.state_dir / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM],
                env=clean | {f"LEADLINE_{name}": value for name, value in told.items()},
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def worker_pids(self) -> list[int]:
        """Process ids of the workers that run now."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split() if "router.serving.worker" in _command(pid)]

    def kill(self) -> None:
        """kill -9 of the supervisor; its workers drain by themselves."""
        assert self.process is not None
        workers = self.worker_pids()
        self.process.kill()
        self._release()
        deadline = time.monotonic() + 20
        while any(Path(f"/proc/{pid}/cmdline").exists() for pid in workers):
            assert time.monotonic() < deadline, "workers outlive their supervisor"
            time.sleep(0.02)

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        self.terminate()
        return self.wait()

    def wait(self) -> int:
        """Waits for the end; returns the exit status."""
        assert self.process is not None
        status = self.process.wait(timeout=30)
        self._release()
        return status

    def _release(self) -> None:
        assert self.process is not None
        self.process.wait(timeout=30)
        if self.process.stdout is not None:
            self.process.stdout.close()


@contextmanager
def serving(state_dir: Path, dsn: str, **settings: str) -> Iterator[ServerProcess]:
    """A server that runs inside the block, on a database that is migrated."""
    server = ServerProcess(state_dir, {"DSN": dsn, **{k.upper(): v for k, v in settings.items()}})
    server.start()
    try:
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            server.stop()
        else:
            server._release()


class Stubs:
    """Stubs of all services on one connection of its own, with a key when one is given."""

    def __init__(
        self, address: str, key: str = "", credentials: grpc.ChannelCredentials | None = None
    ) -> None:
        options = (("grpc.use_local_subchannel_pool", 1),)
        self.channel = (
            grpc.insecure_channel(address, options)
            if credentials is None
            else grpc.secure_channel(address, credentials, options)
        )
        through: Any = _Keyed(self.channel, key) if key else self.channel
        self.router = RouterStub(through)
        self.slos = SlosStub(through)
        self.catalog = CatalogStub(through)
        self.policies = PoliciesStub(through)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()


class _Keyed:
    """A channel whose calls carry the key."""

    def __init__(self, channel: grpc.Channel, key: str) -> None:
        self._channel, self._metadata = channel, (("authorization", f"Bearer {key}"),)

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        return partial(self._channel.unary_unary(*args, **kwargs), metadata=self._metadata)

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        return partial(self._channel.stream_unary(*args, **kwargs), metadata=self._metadata)


def _command(pid: str) -> str:
    """The command line of a process, empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


class Admin:
    """What an operator does past the server, straight on the database."""

    def __init__(self, dsn: str) -> None:
        engine = connect(dsn, role=DatabaseRole.ADMIN, application_name="test")
        self._engine = engine
        self.catalog = PostgresCatalog(engine)
        self.registry = PostgresRegistry(engine)
        self.promises = PostgresPromises(engine)
        self.slos = PostgresSlos(engine)
        self.tenants = PostgresTenants(engine)
        self.signing_keys = SigningKeys(engine)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.dispose()

    def seed(self, catalog: Catalog, *tenants: str, signer: SigningKey | None = None) -> None:
        """Writes a catalog, makes tenants, and trusts a signer of bundles."""
        for model in catalog.models:
            self.catalog.put_model(model, actor="test")
        for arm in catalog.arms:
            self.catalog.put_arm(arm, enabled=True, actor="test")
        for tenant in tenants:
            self.tenants.create(tenant, actor="test")
        if signer is not None:
            self.signing_keys.trust(signer.key_id, signer.public_key, actor="test")

    def key(self, tenant: str, role: Role = Role.CALLER) -> str:
        """The text of a new API key."""
        return self.tenants.create_key(tenant, role, actor="test")[1]
