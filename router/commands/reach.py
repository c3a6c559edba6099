"""The store's seams for commands: in the database, or through a server over the wire."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from router.commands.database import database
from router.errors import NotFound

if TYPE_CHECKING:
    from router.clients import Client, DryRun
    from router.commands.database import Database
    from router.slo import Slo
    from router.store.seams import CatalogStore, Slos
    from router.types import Arm, Catalog, Model, PolicyRecord


REHEARSE_S = 60.0


class TenantSlos(Protocol):
    """The slos of one tenant."""

    def current(self) -> Sequence[Slo]:
        """The newest version of every slo, by name."""

    def get(self, name: str, version: int = 0) -> Slo:
        """One version (0: the newest). Raises NotFound."""

    def put(self, slo: Slo, *, base_version: int | None, actor: str) -> tuple[Slo, Sequence[str]]:
        """Writes the next version; returns it, and what it names that is not there."""

    def dry_run(self, slo: Slo, window: timedelta) -> DryRun:
        """What it would have done on the window's decisions."""


class Switch(Protocol):
    """The registered policies and which of them serves, as the seam Registry says."""

    def records(self, limit: int = 50) -> Sequence[PolicyRecord]:
        """Registered policies, newest first."""

    def canary(self, version: int, *, share: float, actor: str, comment: str = "") -> PolicyRecord:
        """Tries it on a share of the traffic."""

    def reject(self, version: int, *, actor: str, comment: str = "") -> PolicyRecord:
        """Ends a canary, or a candidate's hopes."""

    def promote(self, version: int, *, actor: str, comment: str = "") -> PolicyRecord:
        """Makes it active."""

    def rollback(self, *, actor: str, comment: str = "", version: int = 0) -> PolicyRecord | None:
        """Makes the previous one active again."""


@contextmanager
def slos(tenant: str, dsn: str, address: str) -> Iterator[TenantSlos]:
    """The tenant's slos; through a server they are those of the key's tenant."""
    if address:
        with _client(address) as client:
            yield _RemoteSlos(client, address)
        return
    from router.store.slos import PostgresSlos  # noqa: PLC0415

    with database(dsn) as opened:
        yield _StoredSlos(PostgresSlos(opened.router), opened.tenant_id(tenant), opened)


@contextmanager
def catalog(dsn: str, address: str) -> Iterator[CatalogStore]:
    """The models and arms."""
    if address:
        with _client(address) as client:
            yield _RemoteCatalog(client)
        return
    from router.store.catalog import PostgresCatalog  # noqa: PLC0415

    with database(dsn) as opened:
        yield PostgresCatalog(opened.admin)


@contextmanager
def policies(dsn: str, address: str) -> Iterator[Switch]:
    """The registered policies."""
    if address:
        with _client(address) as client:
            yield _RemotePolicies(client)
        return
    from router.store.registry import PostgresRegistry  # noqa: PLC0415

    with database(dsn) as opened:
        yield PostgresRegistry(opened.admin)


def _client(address: str, timeout_s: float = 5.0) -> Client:
    from router.clients import Client  # noqa: PLC0415

    return Client(address, timeout_s=timeout_s)


class _StoredSlos:
    def __init__(self, store: Slos, tenant_id: UUID, opened: Database) -> None:
        self._store, self._tenant_id, self._opened = store, tenant_id, opened

    def current(self) -> Sequence[Slo]:
        return self._store.current(self._tenant_id)

    def get(self, name: str, version: int = 0) -> Slo:
        return self._store.get(self._tenant_id, name, version)

    def put(self, slo: Slo, *, base_version: int | None, actor: str) -> tuple[Slo, Sequence[str]]:
        from router.policy.unknown import unknown_names  # noqa: PLC0415
        from router.store.catalog import PostgresCatalog  # noqa: PLC0415

        written = self._store.put(self._tenant_id, slo, base_version=base_version, actor=actor)
        return written, unknown_names(written, PostgresCatalog(self._opened.router).read())

    def dry_run(self, slo: Slo, window: timedelta) -> DryRun:
        from router.commands.rehearsed import dry_run  # noqa: PLC0415

        return dry_run(self._opened, self._tenant_id, slo, window)


class _RemoteSlos:
    def __init__(self, client: Client, address: str) -> None:
        self._client, self._address = client, address

    def current(self) -> Sequence[Slo]:
        return self._client.list_slos()

    def get(self, name: str, version: int = 0) -> Slo:
        return self._client.get_slo(name, version=version)

    def put(
        self,
        slo: Slo,
        *,
        base_version: int | None,
        actor: str,  # noqa: ARG002
    ) -> tuple[Slo, Sequence[str]]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            written = self._client.put_slo(slo, base_version=base_version)
        prefix = f"slo {written.name}: "
        return written, [str(each.message).removeprefix(prefix) for each in caught]

    def dry_run(self, slo: Slo, window: timedelta) -> DryRun:
        with _client(self._address, timeout_s=REHEARSE_S) as client:
            return client.dry_run_slo(slo, window=window)


class _RemoteCatalog:
    """The seam CatalogStore over the wire; the server knows the actor by the key."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def read(self) -> Catalog:
        from router.types import Catalog  # noqa: PLC0415

        return Catalog(models=self._client.list_models(), arms=self._client.list_arms())

    def put_model(self, model: Model, *, actor: str) -> int:  # noqa: ARG002
        return self._client.put_model(model)

    def put_arm(self, arm: Arm, *, enabled: bool, actor: str) -> int:  # noqa: ARG002
        return self._client.put_arm(arm, enabled=enabled)


class _RemotePolicies:
    def __init__(self, client: Client) -> None:
        self._client = client

    def records(self, limit: int = 50) -> Sequence[PolicyRecord]:
        return self._client.list_policies(limit=limit)

    def canary(
        self,
        version: int,
        *,
        share: float,
        actor: str,  # noqa: ARG002
        comment: str = "",
    ) -> PolicyRecord:
        return self._client.start_canary(version, share=share, comment=comment)

    def reject(self, version: int, *, actor: str, comment: str = "") -> PolicyRecord:  # noqa: ARG002
        return self._client.reject_policy(version, comment=comment)

    def promote(self, version: int, *, actor: str, comment: str = "") -> PolicyRecord:  # noqa: ARG002
        return self._client.promote_policy(version, comment=comment)

    def rollback(
        self,
        *,
        actor: str,  # noqa: ARG002
        comment: str = "",
        version: int = 0,
    ) -> PolicyRecord | None:
        return self._client.rollback_policy(version=version, comment=comment)


def found(records: Sequence[PolicyRecord], version: int) -> PolicyRecord:
    """The policy of that version. Raises NotFound."""
    for record in records:
        if record.version == version:
            return record
    raise NotFound(
        f"there is no policy {version}; see 'leadline policies list'", reason="POLICY_NOT_FOUND"
    )
