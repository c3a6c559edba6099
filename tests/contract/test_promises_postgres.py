"""What only Postgres can break of the promises' seams: roles, order of commits, killed workers."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import Engine

from router.conditions import MonitorState
from router.store import audit
from router.store.arrivals import PostgresArrivals
from router.store.budgets import PostgresBudgets
from router.store.engine import DatabaseRole, connect
from router.store.promises import PostgresPromises
from router.store.seams import Record
from router.store.shipping import copy_into_logs
from router.store.tenants import PostgresTenants
from tests.kit.postgres import rows
from tests.kit.records import NOW, certificate, decision, monitor, outcome

CAP = 1_000_000


class Tenants:
    """Two tenants of one database, and an engine of every role."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self._engines: list[Engine] = []
        self.admin, self.router, self.trainer = (
            self._connect(role)
            for role in (DatabaseRole.ADMIN, DatabaseRole.ROUTER, DatabaseRole.TRAINER)
        )
        tenants = PostgresTenants(self.admin)
        self.ours = tenants.create("acme", actor="test").tenant_id
        self.theirs = tenants.create("other", actor="test").tenant_id
        self.budgets = PostgresBudgets(self.router)

    def raw(self, role: str, tenant: UUID | None = None) -> psycopg.Connection:
        setting = f"-c role=leadline_{role} -c leadline.tenant_id={tenant or ''}"
        return psycopg.connect(self.dsn, options=setting)

    def lease(self, ask: int = CAP) -> int:
        asked = {"cap_micro_usd": CAP, "ask_micro_usd": ask}
        return self.budgets.lease(self.ours, "chat", "day", NOW, **asked)

    def leased(self) -> int:
        (record,) = self.budgets.spent(self.ours, NOW)
        return record.leased_micro_usd

    def _connect(self, role: DatabaseRole) -> Engine:
        self._engines.append(connect(self.dsn, role=role, pool_size=8))
        return self._engines[-1]

    def close(self) -> None:
        for engine in self._engines:
            engine.dispose()


@pytest.fixture
def both(dsn: str) -> Iterator[Tenants]:
    both = Tenants(dsn)
    yield both
    both.close()


def payloads(*records: Record) -> list[tuple[str, str]]:
    return [(record.kind.value, record.row.decode()) for record in records]


def test_rows_committed_out_of_order_all_count_once(both: Tenants) -> None:
    arrivals = PostgresArrivals(both.trainer)
    decided = [decision(both.ours, slo_name="chat") for _ in range(3)]
    scores = [outcome(each, score=1.0) for each in decided]
    found: list[UUID] = []
    since = 0

    def turn() -> int:
        nonlocal since
        turn = arrivals.fresh_outcomes(both.ours, "chat", since, arrivals.horizon())
        found.extend(fresh.decision_id for fresh in turn.outcomes)
        since = turn.until
        return len(turn.outcomes)

    with both.raw("shipper") as slow, both.raw("shipper") as quick:
        copy_into_logs(quick, payloads(*decided, scores[0]))
        quick.commit()
        assert turn() == 1
        copy_into_logs(slow, payloads(scores[1]))
        copy_into_logs(quick, payloads(scores[2]))
        quick.commit()
        assert turn() == 0
        slow.commit()
        assert turn() == 2
        assert turn() == 0
    assert sorted(found) == sorted(each.row_id for each in decided)


def test_the_log_from_before_arrivals_counts_when_a_score_comes(both: Tenants) -> None:
    arrivals = PostgresArrivals(both.trainer)
    old, scored = (decision(both.ours, slo_name="chat") for _ in range(2))
    with both.raw("shipper") as shipper:
        copy_into_logs(shipper, payloads(old, scored, outcome(scored, score=1.0)))
    for log in ("decisions", "outcomes"):
        with psycopg.connect(both.dsn) as owner:
            owner.execute(f"update {log} set arrival = null".encode())
    since = arrivals.horizon()
    with both.raw("shipper") as shipper:
        copy_into_logs(shipper, payloads(outcome(old, score=0.5), outcome(scored, score=0.0)))
    turn = arrivals.fresh_outcomes(both.ours, "chat", since, arrivals.horizon())
    assert [(fresh.decision_id, fresh.score) for fresh in turn.outcomes] == [(old.row_id, 0.5)]


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("router", "insert into certificates values (%s, %s, 'n', 1, 1, now(), '{}')"),
        ("router", "insert into monitors values (%s, 'n', 'holding', 1, now(), '{}')"),
        ("router", "update monitors set seen_until = 0"),
        ("router", "delete from budgets"),
        ("trainer", "update budgets set leased_micro_usd = 0"),
        ("trainer", "update certificates set body = '{}'"),
        ("admin", "delete from certificates"),
        ("shipper", "select from budgets"),
    ],
)
def test_a_role_may_not_step_over_its_line(both: Tenants, role: str, statement: str) -> None:
    given = [both.ours, both.theirs][: statement.count("%s")]
    with (
        both.raw(role, both.ours) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement.encode(), given)


def test_no_tenant_reaches_what_is_anothers(both: Tenants) -> None:
    promises = PostgresPromises(both.trainer)
    promises.write_certificate(certificate(both.ours), actor="test")
    promises.write_monitor(monitor(both.ours), before=None, actor="test")
    both.lease(5)
    with both.raw("router", both.theirs) as connection:
        for table in ("certificates", "monitors", "budgets"):
            assert connection.execute(f"select from {table}".encode()).rowcount == 0
        assert connection.execute("update budgets set leased_micro_usd = 0").rowcount == 0
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("insert into budgets values (%s, 'x', 'day', now())", [both.ours])
    assert both.leased() == 5


def test_what_is_written_of_promises_is_audited(both: Tenants) -> None:
    promises, record, first = (
        PostgresPromises(both.trainer),
        certificate(both.ours),
        monitor(both.ours),
    )
    further = replace(first, seen_until=9)
    broken = replace(further, seen_until=10, state=MonitorState.BROKEN)
    for _ in range(2):
        promises.write_certificate(record, actor="ann")
    for written, before in ((first, None), (further, first), (broken, further)):
        promises.write_monitor(written, before=before, actor="bob")
    found = audit.entries(both.admin, limit=3)
    assert [(entry.actor, entry.action, entry.subject) for entry in reversed(found)] == [
        ("ann", "certificates.write", "chat"),
        ("bob", "monitors.holding", "chat"),
        ("bob", "monitors.broken", "chat"),
    ]
    assert found[0].details == {"before": "holding", "wealth": 1.5}


def test_a_lease_that_is_cut_off_before_its_commit_takes_nothing(both: Tenants) -> None:
    assert both.lease(10) == 10
    with both.raw("router", both.ours) as cut, ThreadPoolExecutor(1) as pool:
        cut.execute("update budgets set leased_micro_usd = %s", [CAP])
        waiting = pool.submit(both.lease)
        while not rows(both.dsn, "select from pg_locks where not granted"):
            assert not waiting.done()
        rows(both.dsn, "select pg_terminate_backend(%s)", cut.info.backend_pid)
        assert waiting.result(timeout=10) == CAP - 10
        cut.close()


def test_killed_workers_never_bring_the_cap_to_be_exceeded(both: Tenants) -> None:
    program = """
        import sys
        from datetime import datetime
        from uuid import UUID
        from router.store.budgets import PostgresBudgets
        from router.store.engine import DatabaseRole, connect

        budgets = PostgresBudgets(connect(sys.argv[1], role=DatabaseRole.ROUTER))
        key = (UUID(sys.argv[2]), "chat", "day", datetime.fromisoformat(sys.argv[3]))
        while True:
            print(budgets.lease(*key, cap_micro_usd=1_000_000, ask_micro_usd=7), flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    command += [both.dsn, str(both.ours), NOW.isoformat()]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = []
    for worker in workers:
        assert worker.stdout is not None
        said += [worker.stdout.readline() for _ in range(20)]
        worker.kill()
        said += worker.stdout.readlines()
        worker.stdout.close()
        worker.wait()
    told = sum(int(line) for line in said if line.endswith("\n"))
    rest = both.lease()
    assert 0 <= (CAP - rest) - told <= 2 * 7
    assert both.leased() == CAP
