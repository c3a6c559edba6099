"""A worker's own parts in this process, at a time that the test keeps: decide, report, ship.

Postgres, outbox, shipper, reload, watcher and training are those that serve; only the wire
and the processes between them are left out, and the clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import psycopg
from prometheus_client import CollectorRegistry

from router.bundle.signing import SigningKey
from router.clients.values import OutcomeReport
from router.conditions import MonitorState
from router.errors import LeadlineError
from router.serving.asked import asked
from router.serving.conversations import Conversations
from router.serving.decisions import Decisions
from router.serving.outcomes import Outcomes
from router.serving.promised import promised
from router.serving.routing import Routing
from router.serving.server import Room, furnish
from router.serving.stores import open_stores
from router.serving.surroundings import Surroundings
from router.serving.telemetry import logger
from router.serving.wire import reply
from router.settings import Settings
from router.slo import Slo
from router.store.catalog import PostgresCatalog
from router.store.shipper import Shipper
from router.trust import SIGNING_KEY
from router.types import Arm, Catalog, Identity, Model, Role
from router.v1 import router_pb2 as pb
from tests.kit.market import Answered
from tests.kit.server import Admin
from training.canary.judge import Plan
from training.drift.search import Drift
from training.run.early import drifted
from training.run.nightly import Manner, train_from_database
from training.run.room import Options, Registered
from training.watch.plan import Policies, opened
from training.watch.watcher import Watcher

DECISION_KEY = b"k" * 32
"""Ids are derived with it, so that the same requests explore the same way each time."""

TENANT = "acme"
HOLDOUT = 0.3
"""Of little traffic more is held out than by default, so that the gate can tell."""


@dataclass(slots=True)
class Time:
    """The time, which moves when it is told to."""

    now: datetime

    def __call__(self) -> datetime:
        return self.now

    def passes(self, span: timedelta) -> None:
        """Moves on."""
        self.now += span


@dataclass(slots=True, kw_only=True)
class Living:
    """One tenant's service at the time of `clock`."""

    dsn: str
    state: Path
    clock: Time
    admin: Admin
    room: Room
    routing: Routing
    outcomes: Outcomes
    shipper: Shipper
    watcher: Watcher
    caller: Identity
    key: SigningKey
    plan: Plan
    slo: Slo = field(default_factory=Slo)

    def offer(self, models: Sequence[Model], arms: Sequence[Arm]) -> None:
        """What the operator writes into the catalog."""
        for model in models:
            self.admin.catalog.put_model(model, actor="test")
        for arm in arms:
            self.admin.catalog.put_arm(arm, enabled=True, actor="test")
        self.follow()

    def put(self, slo: Slo) -> None:
        """A new version of the slo."""
        tenant_id, before = self.caller.tenant_id, self.slo.version
        self.slo = self.admin.slos.put(tenant_id, slo, base_version=before, actor="test")
        self.follow()

    def ask(self, texts: Sequence[str], ids: Sequence[UUID]) -> list[pb.RouteResponse]:
        """Decides for queries that arrive together, as Route does."""
        slos = {self.slo.name: self.slo}
        waiting = [
            self.routing.take(
                asked(text, slo=self.slo.name, request_id=str(each)), self.caller, slos
            )
            for text, each in zip(texts, ids, strict=True)
        ]
        found = []
        for row in self.routing.answer(waiting):
            if isinstance(row, LeadlineError):
                raise row
            found.append(reply(row, {}))
        return found

    def report(self, decided: pb.RouteResponse, answered: Answered) -> None:
        """Says what came of a decision, as ReportOutcome does."""
        self.outcomes.report(
            OutcomeReport(
                decision_id=decided.decision_id,
                score=answered.score,
                source="exact",
                cost_usd=answered.cost_usd,
                input_tokens=answered.input_tokens,
                output_tokens=answered.output_tokens,
                latency_s=answered.latency_s,
            ),
            self.caller,
        )

    def ship(self) -> None:
        """Brings the outbox into Postgres."""
        assert self.shipper.drain(60.0), self.shipper.stats().last_error

    def watch(self) -> None:
        """Certifies, monitors and judges the canary until nothing is left to do, and follows."""
        while self.watcher.turn(self.clock.now).more:
            pass
        self.follow()

    def follow(self) -> None:
        """Has the worker follow what changed, which its thread does within a second."""
        self._date()
        self.room.reloader._turn(0.0)

    def train(self) -> Registered:
        """A night's run of the job."""
        options = Options(
            seed=0,
            share=HOLDOUT,
            key=self.key,
            actor="leadline train",
            progress=lambda _: None,
            first_share=self.plan.steps[0].share,
        )
        manner = Manner(directory=self.state / "training")
        done = train_from_database(self.dsn, options, manner, now=self.clock.now)
        self.follow()
        return done

    def drift(self) -> Drift | None:
        """What the scheduler's hourly question finds."""
        return drifted(self.dsn, now=self.clock.now)

    @property
    def floor(self) -> tuple[bool, str]:
        """Whether the slo's floor is certified under the policy that serves, and its monitor."""
        active = self.admin.registry.active()
        found = self.admin.promises.current(self.caller.tenant_id).get(self.slo.name)
        said = promised(found, self.slo, active.version if active else 0) if found else None
        certified = said is not None and said.value_usd is not None
        return certified, said.monitor.value if said else MonitorState.HOLDING.value

    def _date(self) -> None:
        """Has been promoted at the test's time what Postgres promoted at its own."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(
                "update policies set promoted_at = %s where promoted_at > %s",
                (self.clock.now, self.clock.now),
            )


@contextmanager
def living(
    dsn: str, state: Path, slo: Slo, catalog: Catalog, *, clock: datetime, plan: Plan
) -> Iterator[Living]:
    """A service with one tenant and an empty log; it ends with the block."""
    settings = Settings.model_validate({"dsn": dsn, "state_dir": state})
    settings.outbox_dir.mkdir(parents=True, exist_ok=True)
    time, key = Time(clock), SigningKey.load_or_create(state / SIGNING_KEY)
    with Admin(dsn) as admin, opened(dsn) as stores:
        admin.seed(catalog, TENANT, signer=key)
        tenant = admin.tenants.identify(TENANT)
        assert tenant is not None
        written = admin.slos.put(tenant.tenant_id, slo, base_version=None, actor="test")
        worker = open_stores(settings, dsn, 0)
        room = furnish(settings, worker, CollectorRegistry())
        decisions = Decisions(worker.outbox, worker.log, room.threads, DECISION_KEY)
        routing = Routing(
            current=room.reloader.current,
            outbox=worker.outbox,
            key=DECISION_KEY,
            metrics=room.metrics,
            max_query_bytes=settings.max_query_bytes,
            exploration_rate=0.0,
            surroundings=Surroundings(
                tenants=room.tenants,
                backends=room.backends,
                wallets=room.wallets,
                conversations=Conversations(),
            ),
            clock=time,
        )
        outcomes = Outcomes(worker.outbox, decisions, time, wallets=room.wallets)
        shipper = Shipper(settings.outbox_dir, dsn)
        watcher = Watcher(stores, Policies(stores, {}), log=logger(), canary=plan)
        try:
            yield Living(
                dsn=dsn,
                state=state,
                clock=time,
                admin=admin,
                room=room,
                routing=routing,
                outcomes=outcomes,
                shipper=shipper,
                watcher=watcher,
                caller=Identity(
                    tenant_id=tenant.tenant_id, tenant=TENANT, role=Role.CALLER, key_id="test"
                ),
                key=key,
                plan=plan,
                slo=written,
            )
        finally:
            shipper.close()
            worker.changes.close()
            worker.outbox.close()
            for each in (worker.catalog, worker.admin_catalog):
                if isinstance(each, PostgresCatalog):
                    each._engine.dispose()
