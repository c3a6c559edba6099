"""Who calls, and which role each method needs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Protocol
from uuid import UUID

from router.errors import PermissionDenied, Unauthenticated
from router.serving.tenants import TenantDirectory
from router.types import Identity, Role

ROLES: Mapping[str, Role] = {
    "/router.v1.Router/Route": Role.CALLER,
    "/router.v1.Router/RouteBatch": Role.CALLER,
    "/router.v1.Router/Continue": Role.CALLER,
    "/router.v1.Router/ReportOutcome": Role.CALLER,
    "/router.v1.Router/ReportOutcomes": Role.CALLER,
    "/router.v1.Router/GetDecision": Role.CALLER,
    "/router.v1.Executor/Execute": Role.CALLER,
    "/router.v1.Slos/ListSlos": Role.CALLER,
    "/router.v1.Slos/GetSlo": Role.CALLER,
    "/router.v1.Slos/PutSlo": Role.ADMIN,
    "/router.v1.Slos/DryRunSlo": Role.ADMIN,
    "/router.v1.Slos/ListCertificates": Role.CALLER,
    "/router.v1.Slos/GetCertificate": Role.CALLER,
    "/router.v1.Catalog/ListModels": Role.CALLER,
    "/router.v1.Catalog/ListArms": Role.CALLER,
    "/router.v1.Catalog/PutModel": Role.OPERATOR,
    "/router.v1.Catalog/PutArm": Role.OPERATOR,
    "/router.v1.Policies/ListPolicies": Role.CALLER,
    "/router.v1.Policies/GetPolicy": Role.CALLER,
    "/router.v1.Policies/StartCanary": Role.OPERATOR,
    "/router.v1.Policies/RejectPolicy": Role.OPERATOR,
    "/router.v1.Policies/PromotePolicy": Role.OPERATOR,
    "/router.v1.Policies/RollbackPolicy": Role.OPERATOR,
}
"""The least role of every method."""

LONGEST_KEY = 256
_SPIFFE = re.compile(r"spiffe://leadline/tenant/([^/]{1,64})/role/([a-z]{1,16})")
_SUBJECTS = "x509_subject_alternative_name"


class Callers(Protocol):
    """Knows who calls. `known` never waits; `look_up` may ask Postgres."""

    def known(self, context: Any) -> Identity | None:
        """The caller if it is in memory. Raises Unauthenticated when there is no key at all."""

    async def look_up(self, context: Any) -> Identity:
        """The caller. Raises Unauthenticated, or Unavailable when Postgres is away."""


def require(identity: Identity, role: Role) -> None:
    """Raises PermissionDenied that names both roles."""
    if not identity.may(role):
        raise PermissionDenied(
            f"the call needs the role {role}, and this key has {identity.role}; "
            "use a key of that role"
        )


class KeyCallers:
    """Callers by the metadata 'authorization: Bearer ll_...'."""

    def __init__(self, tenants: TenantDirectory) -> None:
        self._tenants = tenants

    def known(self, context: Any) -> Identity | None:
        """As Callers says."""
        return self._tenants.identity(_fingerprint(_key(context)))

    async def look_up(self, context: Any) -> Identity:
        """As Callers says."""
        key = _key(context)
        identity = await self._tenants.authenticate(_fingerprint(key), key)
        if identity is None:
            raise Unauthenticated("the API key is not one of ours, or was revoked; make a new one")
        return identity


def _key(context: Any) -> str:
    for name, value in context.invocation_metadata():
        if name == "authorization":
            scheme, _, key = value.partition(" ")
            if scheme.lower() == "bearer" and 0 < len(key) <= LONGEST_KEY:
                return str(key)
            break
    raise Unauthenticated


def _fingerprint(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


class CertificateCallers:
    """Callers by the URI in the client certificate's subject alternative names."""

    def __init__(self, tenants: TenantDirectory) -> None:
        self._tenants = tenants

    def known(self, context: Any) -> Identity | None:
        """As Callers says."""
        name, role = _named(context)
        tenant_id = self._tenants.tenant_id(name)
        return None if tenant_id is None else _certified(tenant_id, name, role)

    async def look_up(self, context: Any) -> Identity:
        """As Callers says."""
        name, role = _named(context)
        tenant_id = await self._tenants.identify(name)
        if tenant_id is None:
            raise Unauthenticated("the certificate names a tenant that is not here; create it")
        return _certified(tenant_id, name, role)


def _named(context: Any) -> tuple[str, Role]:
    for value in context.auth_context().get(_SUBJECTS, ()):
        found = _SPIFFE.fullmatch(value.decode(errors="replace"))
        if found and found[2] in tuple(Role):
            return found[1], Role(found[2])
    raise Unauthenticated(
        "the client certificate needs the URI spiffe://leadline/tenant/<name>/role/<role>"
    )


def _certified(tenant_id: UUID, name: str, role: Role) -> Identity:
    return Identity(tenant_id=tenant_id, tenant=name, role=role, key_id="certificate")


class OpenCallers:
    """Everyone is an operator of one tenant; for loopback alone."""

    def __init__(self, tenants: TenantDirectory, tenant: str = "default") -> None:
        self._tenants = tenants
        self._name = tenant

    def known(self, context: Any) -> Identity | None:  # noqa: ARG002
        """As Callers says."""
        tenant_id = self._tenants.tenant_id(self._name)
        return None if tenant_id is None else self._identity(tenant_id)

    async def look_up(self, context: Any) -> Identity:  # noqa: ARG002
        """As Callers says."""
        tenant_id = await self._tenants.identify(self._name)
        if tenant_id is None:
            raise Unauthenticated(
                f"there is no tenant '{self._name}'; run 'leadline tenants create {self._name}'"
            )
        return self._identity(tenant_id)

    def _identity(self, tenant_id: UUID) -> Identity:
        return Identity(tenant_id=tenant_id, tenant=self._name, role=Role.OPERATOR, key_id="open")
