"""A database with a policy, an slo and interactions to watch, and a webhook that takes notes."""

from __future__ import annotations

import hashlib
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID

import numpy as np
import orjson
import psycopg
from sqlalchemy import Engine, text

from router.ids import uuid7
from router.serving.telemetry import logger
from router.slo import Slo
from router.store.engine import DatabaseRole, connect, tenant_scope
from router.store.promise_seams import InForce
from router.store.seams import Record
from router.store.shipping import copy_into_logs
from router.store.watching import PostgresWatching
from router.types import Arm, Catalog, Model
from tests.kit import serving_bundles
from tests.kit.bundles import KEY
from tests.kit.postgres import rows
from tests.kit.records import decision, outcome
from tests.kit.server import Admin
from training.watch.monitoring import Kept, kept_of
from training.watch.plan import Policies, opened
from training.watch.telling import Teller
from training.watch.watcher import Watcher
from training.watch.webhook import Webhook

TEXTS = tuple(f"Case {number}: what is {number} + {number}?" for number in range(50))
CATALOG = Catalog(
    models=(
        Model(name="small", input_usd_per_mtok=0.1, output_usd_per_mtok=0.4),
        Model(name="large", input_usd_per_mtok=1.0, output_usd_per_mtok=4.0, tier=1),
    ),
    arms=(Arm(model="small", strategy="single"), Arm(model="large", strategy="single")),
    revision=1,
)


@dataclass(slots=True, kw_only=True)
class Post:
    """What a webhook was sent."""

    headers: Mapping[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        value: dict[str, Any] = orjson.loads(self.body)
        return value


@dataclass(slots=True, kw_only=True)
class Receiver:
    """An HTTP server that notes every post and gives the `answers` in turn, then 204."""

    url: str
    answers: list[tuple[int, str]] = field(default_factory=list)
    posts: list[Post] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        return [post.event["id"] for post in self.posts]


@contextmanager
def receiver(
    *answers: tuple[int, str], context: ssl.SSLContext | None = None
) -> Iterator[Receiver]:
    """A receiver; an answer is a status and the location that it redirects to, if any.

    With a server's `context` it speaks TLS, as localhost.
    """
    found = Receiver(url="", answers=list(answers))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.posts.append(Post(headers=dict(self.headers), body=body))
            status, location = found.answers.pop(0) if found.answers else (204, "")
            self.send_response(status)
            if location:
                self.send_header("Location", location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    origin = "https://localhost" if context else "http://127.0.0.1"
    found.url = f"{origin}:{server.server_port}/told"
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def run_into_timeout(engine: Engine, tenant_id: UUID) -> None:
    """Asks for so much that Postgres ends the statement. Raises Unavailable."""
    with tenant_scope(engine, tenant_id) as connection:
        connection.execute(text("set local statement_timeout = 50"))
        connection.execute(text("select pg_sleep(5)"))


class SlowWatching(PostgresWatching):
    """Asks so much about one slo that Postgres ends the statement."""

    def __init__(self, engine: Engine, slo_name: str) -> None:
        super().__init__(engine)
        self._slow = slo_name

    def settled(
        self, tenant_id: UUID, slo_name: str, since: int, until: int, after: datetime
    ) -> int:
        if slo_name == self._slow:
            run_into_timeout(self._engine, tenant_id)
        return super().settled(tenant_id, slo_name, since, until, after)


class World:
    """A tenant "acme" with policy 1 active, whose interactions the tests make up."""

    def __init__(self, dsn: str, admin: Admin) -> None:
        self.dsn, self._admin = dsn, admin
        admin.seed(CATALOG, "acme", signer=KEY)
        found = admin.tenants.identify("acme")
        assert found is not None
        self.tenant_id: UUID = found.tenant_id
        self.policy_version = self.promote(trees=10)
        self._rng = np.random.default_rng(1)

    def promote(self, trees: int) -> int:
        """Makes another small policy the active one."""
        archive = serving_bundles.bundle(CATALOG, trees=trees)
        record = self._admin.registry.register(archive, {}, actor="test")
        self._admin.registry.promote(record.version, actor="test")
        self.policy_version = record.version
        return record.version

    def roll_back(self) -> None:
        """Leaves the static policy to serve."""
        self._admin.registry.rollback(actor="test")
        self.policy_version = 0

    def put(self, **slo: object) -> Slo:
        """Writes the slo "chat", or another name."""
        wanted = Slo.from_mapping({"name": "chat", **slo})
        return self._admin.slos.put(self.tenant_id, wanted, base_version=None, actor="test")

    def decided(self, slo: Slo, count: int, **columns: Any) -> list[Record]:
        """Decisions under the slo and the active policy, either arm as probable, unscored."""
        found = []
        for number in range(count):
            text, model = TEXTS[number % len(TEXTS)], ("small", "large")[self._rng.integers(2)]
            made: dict[str, Any] = {
                "slo_name": slo.name,
                "slo_version": slo.version,
                "policy_version": self.policy_version,
                "policy_source": "learned",
                "query": text,
                "query_id": hashlib.blake2b(text.encode(), digest_size=16).hexdigest(),
                "arm": f"{model}:single",
                "model": model,
                "decision_id": uuid7(datetime.now(UTC) + timedelta(milliseconds=5)),
            }
            found.append(decision(self.tenant_id, **{**made, **columns}))
        self.ship(found)
        return found

    def scored(self, decided: Sequence[Record], accuracy: float) -> None:
        """One score for each decision; right with that probability."""
        scores = (self._rng.random(len(decided)) < accuracy).astype(float).tolist()
        self.ship([outcome(each, score=score) for each, score in zip(decided, scores, strict=True)])

    def ship(self, records: Sequence[Record]) -> None:
        """Brings rows into the database as the shipper does."""
        payloads = [(record.kind.value, record.row.decode()) for record in records]
        with psycopg.connect(self.dsn, options="-c role=leadline_shipper") as connection:
            copy_into_logs(connection, payloads)

    @contextmanager
    def watcher(
        self, webhook: Webhook | None = None, slow: str = "", *, private: bool = True
    ) -> Iterator[Watcher]:
        """A watcher of this database; statements on the `slow` slo run into their timeout."""
        with opened(self.dsn) as usual:
            engine = connect(self.dsn, role=DatabaseRole.TRAINER)
            stores = replace(usual, watching=SlowWatching(engine, slow)) if slow else usual
            teller = Teller(webhook, private=private)
            yield Watcher(stores, Policies(stores, {}), log=logger(), teller=teller)
            engine.dispose()

    def in_force(self, name: str = "chat") -> InForce:
        """What the database holds of an slo."""
        return self._admin.promises.current(self.tenant_id).get(name, InForce())

    def kept(self, name: str = "chat") -> Kept:
        """The monitor of an slo."""
        found = kept_of(self.in_force(name).monitor)
        assert found is not None
        return found

    def changes(self) -> list[str]:
        """The audit log's entries on monitors, oldest first."""
        query = "select action from audit_log where action like 'monitors.%%' order by entry_id"
        return [str(action).removeprefix("monitors.") for (action,) in rows(self.dsn, query)]


def catch_up(watcher: Watcher, now: datetime | None = None) -> None:
    """Turns until nothing is left to do, as if it were that time."""
    while watcher.turn(now or datetime.now(UTC)).more:
        pass


@contextmanager
def world(dsn: str) -> Iterator[World]:
    """The world on a database, with one policy active."""
    with Admin(dsn) as admin:
        yield World(dsn, admin)
