"""Fixtures that several rooms' tests share; the factories stand in tests/kit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.kit.postgres import PostgresServer

# How fast a busy machine makes up examples says nothing of the code.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, else in random order: none is left to one process at the end."""
    items.sort(key=lambda item: "integration" not in item.path.parts)


@pytest.fixture(scope="session")
def cluster() -> Iterator[PostgresServer]:
    """The one Postgres of the test run, with a migrated template."""
    server = PostgresServer()
    server.start()
    server.make_template()
    yield server
    server.remove()


@pytest.fixture
def dsn(cluster: PostgresServer) -> Iterator[str]:
    """A migrated database of the test's own."""
    with cluster.database() as dsn:
        yield dsn


@pytest.fixture
def empty_dsn(cluster: PostgresServer) -> Iterator[str]:
    """A database without a schema."""
    with cluster.database(migrated=False) as dsn:
        yield dsn


@pytest.fixture
def mortal() -> Iterator[PostgresServer]:
    """A migrated cluster of the test's own, which it may kill."""
    server = PostgresServer()
    server.start()
    server.make_template()
    yield server
    server.remove()
