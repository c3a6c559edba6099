"""The schema: which revision the database is at, and the way to this version's."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from router.errors import ConfigurationError, MigrationNeeded
from router.store.engine import away_is_unavailable, connect

UPGRADE_LOCK = 7_166_080
LONGEST_STATEMENT_S = 600.0
VERSION_TABLE = "create table if not exists alembic_version (version_num varchar(32) primary key)"

# Alembic's environment is a global of the process.
_one_at_a_time = threading.Lock()


def upgrade(dsn: str) -> str:
    """Brings the database to this version's schema; returns its revision.

    Runs online: a statement that waits a second for a lock gives up. May run twice, and
    in several processes at once.
    """
    with _one_at_a_time, _session(dsn) as connection:
        connection.execute(text("select pg_advisory_lock(:lock)"), {"lock": UPGRADE_LOCK})
        connection.execute(text("set lock_timeout = '1s'"))
        connection.execute(text(VERSION_TABLE))
        connection.commit()
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()
    return newest()


def current(dsn: str) -> str | None:
    """The revision that the database is at; None before the first upgrade."""
    with _session(dsn) as connection:
        return MigrationContext.configure(connection).get_current_revision()


def newest() -> str:
    """The revision that this version of Leadline needs."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise ConfigurationError("Leadline is installed without its migrations; install it again")
    return head


def check(dsn: str) -> None:
    """Raises MigrationNeeded unless the database is at this version's schema."""
    found, needed = current(dsn), newest()
    if found == needed:
        return
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if found is not None and found not in known:
        raise MigrationNeeded(
            f"the database is at revision {found}, newer than this version's {needed}: "
            "install the newer leadline"
        )
    raise MigrationNeeded(
        f"the database is at revision {found or 'none'} and needs {needed}: "
        "run 'leadline db upgrade'"
    )


@contextmanager
def _session(dsn: str) -> Iterator[Connection]:
    engine = connect(
        dsn,
        role=None,
        application_name="leadline schema",
        statement_timeout_s=LONGEST_STATEMENT_S,
        pool_size=1,
    )
    try:
        with away_is_unavailable(engine), engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _config() -> Config:
    found = importlib.util.find_spec("migrations")
    if found is None or found.origin is None:
        raise ConfigurationError("Leadline is installed without its migrations; install it again")
    config = Config()
    config.set_main_option("script_location", str(Path(found.origin).parent).replace("%", "%%"))
    return config
