"""Real Postgres for tests: one cluster a test run, one database a test."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg

from router.store import schema
from router.store.embedded import EmbeddedPostgres

TEMPLATE = "template_leadline"


class PostgresServer:
    """A cluster of its own, which a test may kill and start again."""

    def __init__(self, *, durable: bool = False) -> None:
        """Unless it is `durable`, nothing waits for the disk: tests never kill the machine."""
        self.durable = durable
        self.directory = Path(tempfile.mkdtemp(prefix="leadline-pg-"))
        self.server = EmbeddedPostgres(self.directory / "postgres")
        self._numbers = count(1)

    @property
    def dsn(self) -> str:
        """The DSN of the database 'leadline'."""
        return self.server.dsn

    def start(self) -> str:
        """Starts or restarts the cluster; returns the DSN."""
        dsn = self.server.start()
        if not self.durable:
            self.execute("alter system set fsync = off")
            self.execute("select pg_reload_conf()")
        return dsn

    def kill(self) -> None:
        """kill -9 of the postmaster; returns when it is gone."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """An orderly stop that does not wait for clients."""
        self._end(signal.SIGINT)

    def remove(self) -> None:
        """Ends the cluster and removes its files."""
        self._end(signal.SIGQUIT)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _end(self, how: signal.Signals) -> None:
        pid = self.server.pid()
        if pid is None:
            return
        os.kill(pid, how)
        while self.server.pid() is not None:
            time.sleep(0.01)

    def make_template(self) -> None:
        """Makes the migrated database that `database` clones."""
        self.execute(f"create database {TEMPLATE}")
        schema.upgrade(self.server.dsn_of(TEMPLATE))

    @contextmanager
    def database(self, *, migrated: bool = True) -> Iterator[str]:
        """The DSN of a new database, dropped afterwards."""
        name = f"test_{next(self._numbers)}"
        template = TEMPLATE if migrated else "template1"
        self.execute(f"create database {name} template {template} strategy file_copy")
        try:
            yield self.server.dsn_of(name)
        finally:
            self.execute(f"drop database if exists {name} with (force)")

    def execute(self, statement: str) -> None:
        """Runs a statement as the superuser, outside any transaction."""
        with psycopg.connect(self.server.dsn_of("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())


def rows(dsn: str, query: str, *parameters: object) -> list[tuple[object, ...]]:
    """What a query returns to the superuser, past row-level security."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(query.encode(), parameters).fetchall()
