"""Fixtures that several rooms' tests share; the factories stand in tests/kit."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest
from coverage import Coverage
from hypothesis import HealthCheck, settings

from tests.kit.postgres import PostgresServer

# How fast a busy machine makes up examples says nothing of the code.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, else in random order: none is left to one process at the end."""
    items.sort(key=lambda item: "integration" not in item.path.parts)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Long tests are not traced: on CPython 3.11 that doubles what they take."""
    long = "integration" in item.path.parts or item.get_closest_marker("untraced")
    coverage = Coverage.current() if long else None
    if coverage is None:
        return (yield)
    coverage.stop()
    try:
        return (yield)
    finally:
        coverage.start()


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
