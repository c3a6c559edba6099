"""Databases with history, and runs of `leadline train` on them that may be killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import psycopg
import pyarrow as pa

from router.bundle.signing import SigningKey
from router.ids import uuid7
from router.slo import Slo
from router.store.engine import DatabaseRole, connect
from router.store.interactions import import_rows
from router.store.shipping import copy_into_logs
from router.store.tenants import PostgresTenants
from router.trust import SIGNING_KEY
from router.types import Arm, Catalog, Model
from tests.kit import logs
from tests.kit.bundles import KEY
from tests.kit.postgres import rows
from tests.kit.records import decision, outcome
from tests.kit.server import Admin
from training.log.rows import SCHEMA
from training.run.nightly import Manner, train_from_database
from training.run.room import Options, Registered

LEADLINE = (sys.executable, "-c", "from router.cli import main; main()")
START = datetime(2026, 3, 1, tzinfo=UTC)
VALUE_USD = 2e-3
FIGURES = ("score", "cost_usd", "latency_s", "confidence")
CATALOG = Catalog(
    models=(
        Model(name="small", input_usd_per_mtok=0.1, output_usd_per_mtok=0.4),
        Model(name="large", input_usd_per_mtok=1.0, output_usd_per_mtok=4.0, tier=1),
    ),
    arms=tuple(
        Arm(model=model, strategy=strategy, params=params) for model, strategy, params in logs.ARMS
    ),
)


def history(dsn: str, queries: int = 120) -> None:
    """Brings a simulated log with times into a database, the same each time."""
    told = [
        {**row, "occurred_at": START + timedelta(minutes=int(row["query_id"][1:]))}
        for row in logs.simulated(queries).rows
    ]
    admin, shipper = (
        connect(dsn, role=role) for role in (DatabaseRole.ADMIN, DatabaseRole.SHIPPER)
    )
    try:
        tenant = PostgresTenants(admin).create("acme", actor="test")
        batch = pa.Table.from_pylist(told, SCHEMA).to_batches()[0]
        import_rows(shipper, tenant.tenant_id, [batch], START + timedelta(days=1))
    finally:
        admin.dispose()
        shipper.dispose()


def decided(
    dsn: str, queries: int, *, since: datetime = START, seed: int = 2, dearer: float = 1.0
) -> None:
    """Decisions of our own with their outcomes, one a minute, under the slo "chat".

    They cost so many times what the catalog says.
    """
    with Admin(dsn) as admin:
        if admin.tenants.identify("acme") is None:
            admin.seed(CATALOG, "acme", signer=KEY)
        tenant = admin.tenants.identify("acme")
        assert tenant is not None
        slo = Slo.from_mapping({"name": "chat", "accuracy_value_usd": VALUE_USD})
        admin.slos.put(tenant.tenant_id, slo, base_version=None, actor="test")
    records = []
    for number, row in enumerate(logs.bandit(queries, seed=seed).rows):
        at = since + timedelta(minutes=number)
        arm = Arm(
            model=row["model"],
            strategy=row["strategy"],
            params=orjson.loads(row["strategy_params"]),
        )
        made = decision(
            tenant.tenant_id,
            decision_id=uuid7(at),
            query=row["query"],
            query_id=row["query_id"],
            slo_name="chat",
            slo_version=1,
            arm=arm.key,
            model=arm.model,
            strategy=arm.strategy,
            params=arm.params,
            propensity=float(row["propensity"]),
        )
        told: dict[str, Any] = {name: float(row[name]) for name in FIGURES}
        told["cost_usd"] *= dearer
        report = outcome(made, occurred_at=at + timedelta(seconds=5), **told)
        records += [made, report]
    payloads = [(record.kind.value, record.row.decode()) for record in records]
    with psycopg.connect(dsn, options="-c role=leadline_shipper") as connection:
        copy_into_logs(connection, payloads)


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """What a database says of its runs and policies, oldest first."""

    runs: Sequence[tuple[UUID, str, str | None]]
    policies: Sequence[str]

    @classmethod
    def of(cls, dsn: str) -> Book:
        """Reads it past every role."""
        told: Any = rows(dsn, "select run_id, state, stage from training_runs order by started_at")
        made = rows(dsn, "select bundle_sha256 from policies order by version")
        return cls(runs=told, policies=[str(digest) for (digest,) in made])


class _BrokenOff(BaseException):
    """What no run can know of, as a kill."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nights:
    """`leadline train` on one database, with the state directory of one machine."""

    dsn: str
    state: Path

    def killed_at(self, step: str, before_s: float = 0.0) -> None:
        """kill -9 as soon as the run tells the step; `before_s` later, where given."""
        with self._begun() as run:
            assert run.stderr is not None
            for line in run.stderr:
                if line.startswith(b"{") and orjson.loads(line).get("step") == step:
                    break
            else:
                raise AssertionError(f"the run never came to {step}")
            try:
                run.wait(before_s)
            except subprocess.TimeoutExpired:
                run.kill()

    def broken_off_at(self, step: str) -> None:
        """A run in this process that ends at once as it tells the step, as one that is killed."""

        def told(reached: str) -> None:
            if reached == step:
                raise _BrokenOff

        with suppress(_BrokenOff):
            self.here(told)
            raise AssertionError(f"the run never came to {step}")

    def killed_after(self, seconds: float) -> bool:
        """kill -9 after a time from its start; whether it had not ended before."""
        with self._begun() as run:
            try:
                run.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                run.kill()
                run.communicate()
                return True
        return False

    def finished(self, *options: str) -> dict[str, Any]:
        """What a run that nobody disturbs answers."""
        command = [*LEADLINE, "train", "--json", "--dsn", self.dsn, *options]
        done = subprocess.run(
            command, env=self._environment(), capture_output=True, check=False, timeout=240
        )
        assert done.returncode == 0, done.stderr.decode()
        found: dict[str, Any] = orjson.loads(done.stdout)
        return found

    def here(
        self,
        progress: Callable[[str], None] = lambda _: None,
        *,
        now: datetime | None = None,
        wait: bool = False,
        canary: bool = True,
    ) -> Registered:
        """A run in this process, which hears of its steps."""
        options = Options(
            seed=0,
            share=0.2,
            key=SigningKey.load_or_create(self.state / SIGNING_KEY),
            actor="test",
            progress=progress,
            canary=canary,
        )
        manner = Manner(directory=self.state / "training", wait=wait)
        return train_from_database(self.dsn, options, manner, now=now or datetime.now(UTC))

    def _begun(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*LEADLINE, "train", "--dsn", self.dsn],
            env=self._environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def _environment(self) -> dict[str, str]:
        own = {"LEADLINE_STATE_DIR": str(self.state), "LEADLINE_LOG_LEVEL": "info"}
        return {**os.environ, **own}
