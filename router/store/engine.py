"""Connections to Postgres: one role, one small pool, a timeout on every statement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy import exc as sa
from sqlalchemy.engine import make_url

from router.errors import ConfigurationError, MigrationNeeded, Unavailable


class DatabaseRole(StrEnum):
    """What a connection may do; the migration makes these roles and their grants."""

    OWNER = "leadline_owner"
    ROUTER = "leadline_router"
    SHIPPER = "leadline_shipper"
    TRAINER = "leadline_trainer"
    ADMIN = "leadline_admin"


CONNECT_TIMEOUT_S = 2
STATEMENT_TIMEOUT_S = 5.0


def connect(
    dsn: str,
    *,
    role: DatabaseRole | None,
    application_name: str = "leadline",
    statement_timeout_s: float = STATEMENT_TIMEOUT_S,
    pool_size: int = 4,
) -> Engine:
    """An engine whose every connection acts as `role`; nothing is connected yet.

    None keeps the role of the DSN's own user. Raises ConfigurationError for a bad DSN.
    """
    arguments = connection_arguments(
        role=role, application_name=application_name, statement_timeout_s=statement_timeout_s
    )
    return create_engine(
        _url(dsn),
        connect_args=dict(arguments),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=CONNECT_TIMEOUT_S,
        pool_pre_ping=True,
        hide_parameters=True,
    )


def connection_arguments(
    *, role: DatabaseRole | None, application_name: str, statement_timeout_s: float
) -> Mapping[str, Any]:
    """The keywords of `psycopg.connect` that every connection of ours shares."""
    options = f"-c statement_timeout={round(statement_timeout_s * 1000)} -c timezone=UTC"
    return {
        "application_name": application_name,
        "connect_timeout": CONNECT_TIMEOUT_S,
        "options": options if role is None else f"{options} -c role={role}",
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
    }


def connect_raw(
    dsn: str, *, role: DatabaseRole, application_name: str, statement_timeout_s: float
) -> psycopg.Connection[tuple[Any, ...]]:
    """One psycopg connection in autocommit mode, for COPY and LISTEN.

    Raises psycopg.Error as it comes: its two callers live through outages.
    """
    arguments = connection_arguments(
        role=role, application_name=application_name, statement_timeout_s=statement_timeout_s
    )
    conninfo = _url(dsn).set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(conninfo, autocommit=True, **arguments)


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction; a lost connection or a timeout inside raises Unavailable."""
    with away_is_unavailable(engine), engine.begin() as connection:
        yield connection


@contextmanager
def tenant_scope(engine: Engine, tenant_id: UUID) -> Iterator[Connection]:
    """One transaction that sees the rows of one tenant alone."""
    with transaction(engine) as connection:
        connection.execute(
            text("select set_config('leadline.tenant_id', :tenant, true)"),
            {"tenant": str(tenant_id)},
        )
        yield connection


@contextmanager
def away_is_unavailable(engine: Engine) -> Iterator[None]:
    """Gives every way in which Postgres can be away one meaning: Unavailable."""
    try:
        yield
    except (sa.OperationalError, sa.InterfaceError) as error:
        raise Unavailable(f"{address(engine)}: {_kind(error.orig)}; try again") from error
    except psycopg.OperationalError as error:
        raise Unavailable(f"{address(engine)}: {_kind(error)}; try again") from error
    except sa.TimeoutError as error:
        raise Unavailable(f"{address(engine)}: every connection is in use; try again") from error
    except sa.ProgrammingError as error:
        if isinstance(error.orig, psycopg.errors.UndefinedTable):
            raise MigrationNeeded from error
        raise


def address(engine: Engine) -> str:
    """Where the engine connects to, for messages: no user, no password."""
    url = engine.url
    host = url.host or url.query.get("host", "local socket")
    return f"Postgres at {host}/{url.database}"


def _kind(error: BaseException | None) -> str:
    if isinstance(error, psycopg.errors.QueryCanceled):
        return "the statement took too long"
    if isinstance(error, psycopg.Error) and error.sqlstate:
        return f"the connection was lost ({type(error).__name__})"
    return "away"


def _url(dsn: str) -> Any:
    try:
        url = make_url(dsn)
    except sa.ArgumentError:
        raise ConfigurationError("LEADLINE_DSN is not a URL like postgresql://host/db") from None
    if url.drivername not in {"postgresql", "postgres", "postgresql+psycopg"}:
        raise ConfigurationError(f"LEADLINE_DSN: {url.drivername} is not postgresql://")
    return url.set(drivername="postgresql+psycopg")
