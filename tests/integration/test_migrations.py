"""The migrated database is what tables.py says, and keeps tenants apart."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from router.errors import ConfigurationError, MigrationNeeded, Unavailable
from router.store import schema
from router.store.engine import DatabaseRole, connect, tenant_scope, transaction
from router.store.tables import metadata
from tests.kit.postgres import PostgresServer, rows

LOGS = ("decisions", "attempts", "outcomes")
MINIMAL = {
    "decisions": "(tenant_id, occurred_at, decision_id, query_id, policy_version, policy_source,"
    " arm, model, strategy) values (%s, now(), gen_random_uuid(), 'q', 0, 'static', 'a', 'm', 's')",
    "attempts": "(tenant_id, decided_at, decision_id, attempt, attempt_id, occurred_at, arm, model,"
    " strategy, keep) values (%s, now(), gen_random_uuid(), 0, gen_random_uuid(), now(),"
    " 'a', 'm', 's', true)",
    "outcomes": "(tenant_id, decided_at, outcome_id, decision_id, occurred_at, attempt)"
    " values (%s, now(), gen_random_uuid(), gen_random_uuid(), now(), 0)",
}


def as_role(
    dsn: str, role: str, statement: str, *parameters: Any, tenant: UUID | None = None
) -> Any:
    with psycopg.connect(dsn, options=f"-c role=leadline_{role}") as connection:
        if tenant is not None:
            connection.execute("select set_config('leadline.tenant_id', %s, true)", [str(tenant)])
        cursor = connection.execute(statement.encode(), parameters)
        return cursor.fetchall() if cursor.description else cursor.rowcount


def fill_logs(dsn: str, *tenants: UUID) -> None:
    for tenant in tenants:
        for log in LOGS:
            as_role(dsn, "shipper", f"insert into {log} {MINIMAL[log]}", tenant)


def test_the_migrated_database_is_what_tables_py_says(dsn: str) -> None:
    partitions = {name for (name,) in rows(dsn, "select inhrelid::regclass::text from pg_inherits")}

    def ours(_: Any, name: str | None, kind: str, *__: Any) -> bool:
        return not (kind == "table" and name in partitions)

    engine = connect(dsn, role=None)
    with transaction(engine) as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_object": ours,
                "compare_type": True,
                "compare_server_default": True,
            },
        )
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_every_table_with_a_tenant_forces_row_level_security(dsn: str) -> None:
    found = rows(
        dsn,
        "select relname, relrowsecurity, relforcerowsecurity from pg_class c "
        "join pg_attribute a on a.attrelid = c.oid and attname = 'tenant_id' "
        "where relkind in ('r', 'p')",
    )
    assert len(found) >= 4 + 3
    assert [name for name, enabled, forced in found if not (enabled and forced)] == []


@pytest.mark.parametrize("role", ["router", "shipper", "trainer", "admin"])
def test_no_role_that_serves_owns_anything(dsn: str, role: str) -> None:
    owned = "select relname from pg_class where relowner = %s::regrole"
    assert rows(dsn, owned, f"leadline_{role}") == []


@pytest.mark.parametrize("log", LOGS)
def test_the_router_sees_one_tenant_and_without_one_nothing(dsn: str, log: str) -> None:
    ours, theirs = uuid4(), uuid4()
    fill_logs(dsn, ours, theirs)
    query = f"select tenant_id from {log}"
    assert as_role(dsn, "router", query, tenant=ours) == [(ours,)]
    assert as_role(dsn, "router", query) == []
    assert as_role(dsn, "router", f"{query} where tenant_id = %s", theirs, tenant=ours) == []
    assert len(as_role(dsn, "trainer", query)) == 2


def test_a_scope_ends_with_its_transaction(dsn: str) -> None:
    tenant = uuid4()
    fill_logs(dsn, tenant)
    engine = connect(dsn, role=DatabaseRole.ROUTER, pool_size=1)
    count = text("select count(*) from decisions")
    with tenant_scope(engine, tenant) as connection:
        assert connection.scalar(count) == 1
    with transaction(engine) as connection:
        assert connection.scalar(count) == 0
    engine.dispose()


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("router", "insert into decisions " + MINIMAL["decisions"]),
        ("router", "delete from outcomes where tenant_id = %s"),
        ("router", "update policies set state = 'active' where %s::uuid is null"),
        ("router", "insert into slos values (%s, 'n', 1, '{}', now(), 'a')"),
        ("shipper", "select from decisions where tenant_id = %s"),
        ("shipper", "select from api_keys where tenant_id = %s"),
        ("trainer", "select from api_keys where tenant_id = %s"),
        ("trainer", "update slos set version = 2 where tenant_id = %s"),
        ("admin", "delete from audit_log where tenant_id = %s"),
        ("admin", "select from decisions_history where tenant_id = %s"),
        ("router", "select from decisions_default where tenant_id = %s"),
        ("router", "select from webhooks where tenant_id = %s"),
        ("shipper", "select from webhooks where tenant_id = %s"),
        ("trainer", "update webhooks set url = '' where tenant_id = %s"),
    ],
)
def test_a_role_may_not_step_over_its_line(dsn: str, role: str, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_role(dsn, role, statement, uuid4())


def test_upgrading_twice_changes_nothing(dsn: str) -> None:
    key = rows(dsn, "select value from secrets")
    assert schema.upgrade(dsn) == schema.current(dsn) == schema.newest()
    assert rows(dsn, "select value from secrets") == key


def back_to_the_first_revision(dsn: str, *, column: bool) -> None:
    with psycopg.connect(dsn) as connection:
        if not column:
            connection.execute("alter table decisions drop column explanation")
        connection.execute("update alembic_version set version_num = '0001'")


@pytest.mark.parametrize("column", [False, True])
def test_explanations_join_a_log_that_has_rows_already(dsn: str, column: bool) -> None:
    tenant = uuid4()
    back_to_the_first_revision(dsn, column=column)
    fill_logs(dsn, tenant)
    for _ in range(2):
        assert schema.upgrade(dsn) == schema.newest()
    assert rows(dsn, "select tenant_id, explanation from decisions") == [(tenant, None)]
    assert as_role(dsn, "shipper", "select ensure_partitions(5)") == [(6,)]
    lacking = (
        "select inhrelid::regclass::text from pg_inherits where inhparent = 'decisions'::regclass "
        "and not exists (select from pg_attribute "
        "where attrelid = inhrelid and attname = 'explanation')"
    )
    assert rows(dsn, lacking) == []


def test_promises_join_a_log_that_has_rows_already(dsn: str) -> None:
    tenant = uuid4()
    with psycopg.connect(dsn) as connection:
        connection.execute("drop table certificates, monitors, budgets")
        connection.execute("delete from revisions where topic = 'promises'")
        connection.execute("alter table outcomes drop column arrival")
        for column in ("arrival", "conditions", "reasons", "novelty"):
            connection.execute(f"alter table decisions drop column {column}".encode())
        connection.execute("update alembic_version set version_num = '0002'")
    fill_logs(dsn, tenant)
    for _ in range(2):
        assert schema.upgrade(dsn) == schema.newest()
    for log in ("decisions", "outcomes"):
        assert rows(dsn, f"select tenant_id, arrival from {log}") == [(tenant, None)]
    indexes = (
        "select bool_and(indisvalid), count(*) from pg_index join pg_class c on c.oid = indexrelid "
        "where relname in ('decisions_arrived', 'outcomes_arrived')"
    )
    assert rows(dsn, indexes) == [(True, 2)]
    with psycopg.connect(dsn) as connection:
        connection.execute("update alembic_version set version_num = '0002'")
    assert schema.upgrade(dsn) == schema.newest()


def test_webhooks_join_a_database_that_has_tenants_already(dsn: str) -> None:
    tenant = uuid4()
    as_role(dsn, "admin", "insert into tenants values (%s, 'a')", tenant)
    with psycopg.connect(dsn) as connection:
        connection.execute("drop table webhooks")
        connection.execute("update alembic_version set version_num = '0003'")
    for _ in range(2):
        assert schema.upgrade(dsn) == schema.newest()
        with psycopg.connect(dsn) as connection:
            connection.execute("update alembic_version set version_num = '0003'")
    assert rows(dsn, "select count(*) from webhooks") == [(0,)]


def test_an_upgrade_gives_up_where_a_log_is_in_use_and_succeeds_afterwards(dsn: str) -> None:
    back_to_the_first_revision(dsn, column=False)
    with psycopg.connect(dsn) as reader:
        reader.execute("select count(*) from decisions")
        with pytest.raises(Unavailable):
            schema.upgrade(dsn)
        assert schema.current(dsn) == "0001"
    assert schema.upgrade(dsn) == schema.newest()


def test_upgrades_at_once_make_one_schema(cluster: PostgresServer, empty_dsn: str) -> None:
    upgrade = "import sys; from router.store import schema; schema.upgrade(sys.argv[1])"
    with cluster.database(migrated=False) as other:
        running = [
            subprocess.Popen([sys.executable, "-c", upgrade, dsn]) for dsn in (empty_dsn, other) * 2
        ]
        assert [process.wait(60) for process in running] == [0, 0, 0, 0]
        schema.check(other)
    schema.check(empty_dsn)


def test_upgrades_in_threads_of_one_process_take_turns(empty_dsn: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(schema.upgrade, [empty_dsn] * 4)) == {schema.newest()}


def test_an_unmigrated_database_is_named_with_the_command(empty_dsn: str) -> None:
    assert schema.current(empty_dsn) is None
    with pytest.raises(MigrationNeeded, match="run 'leadline db upgrade'"):
        schema.check(empty_dsn)


def test_a_database_from_the_future_is_refused(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("update alembic_version set version_num = '9999'")
    with pytest.raises(MigrationNeeded, match="newer leadline"):
        schema.check(dsn)


def test_partitions_are_made_ahead_once(dsn: str) -> None:
    ahead = "select ensure_partitions(5)"
    assert as_role(dsn, "shipper", ahead) == [(6,)]
    assert as_role(dsn, "shipper", ahead) == [(0,)]


def test_rows_already_in_the_default_partition_do_not_stop_new_months(dsn: str) -> None:
    late = MINIMAL["decisions"].replace("now()", "now() + interval '4 months'", 1)
    as_role(dsn, "shipper", f"insert into decisions {late}", uuid4())
    assert as_role(dsn, "shipper", "select ensure_partitions(5)") == [(5,)]
    assert rows(dsn, "select count(*) from decisions") == [(1,)]


def test_every_write_of_configuration_is_counted(dsn: str) -> None:
    tenant = uuid4()
    as_role(dsn, "admin", "insert into tenants values (%s, 'a')", tenant)
    as_role(
        dsn,
        "router",
        "insert into slos values (%s, 'n', 1, '{}', now(), 'a')",
        tenant,
        tenant=tenant,
    )
    monitor = "insert into monitors values (%s, 'n', 'holding', 1, now(), '{}')"
    as_role(dsn, "trainer", monitor, tenant)
    as_role(dsn, "trainer", "update monitors set updated_at = now()")
    as_role(dsn, "trainer", "update monitors set state = 'broken'")
    found = rows(dsn, "select topic, revision from revisions")
    assert {str(topic): count for topic, count in found} == {
        "tenants": 1,
        "slos": 1,
        "catalog": 0,
        "policies": 0,
        "promises": 2,
    }


def test_postgres_away_is_unavailable_and_tells_no_password() -> None:
    engine = connect("postgresql://me:hunter2@127.0.0.1:1/db", role=None)
    with pytest.raises(Unavailable) as raised, transaction(engine):
        pass
    assert "hunter2" not in str(raised.value)
    assert "127.0.0.1" in raised.value.message


@pytest.mark.parametrize("dsn", ["mysql://me:hunter2@h/db", "hunter2"])
def test_a_dsn_that_is_none_is_refused_without_repeating_it(dsn: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        connect(dsn, role=None)
    assert "hunter2" not in str(raised.value)


def test_a_statement_that_takes_too_long_is_unavailable(dsn: str) -> None:
    engine = connect(dsn, role=DatabaseRole.ROUTER, statement_timeout_s=0.05)
    with pytest.raises(Unavailable, match="took too long"), transaction(engine) as connection:
        connection.execute(text("select pg_sleep(5)"))
    engine.dispose()
