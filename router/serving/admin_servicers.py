"""The services Slos, Catalog and Policies: requests to calls, values to responses."""

from __future__ import annotations

from collections.abc import Callable

from router.clients.mapping import message_of
from router.clients.messages import model_message, slo_message
from router.errors import NotFound
from router.policy.unknown import unknown_names
from router.serving import fields
from router.serving.edge import Rpc
from router.serving.messages import (
    arm_from,
    model_of,
    policy_message,
    slo_of,
)
from router.serving.rehearsing import WINDOW, Rehearsals
from router.serving.tenants import TenantDirectory
from router.serving.threads import Threads
from router.serving.wire import arm_message
from router.store.seams import CatalogStore, Registry, Slos
from router.types import Identity, PolicyRecord
from router.v1 import catalog_pb2, policies_pb2, slos_pb2

MOST_POLICIES = 1_000


def actor(caller: Identity) -> str:
    """How the audit log names the caller."""
    return f"{caller.tenant}/{caller.key_id}"


class SlosServicer:
    """Keeps the caller's own tenant's slos; `rehearsals` says what one would have done."""

    def __init__(
        self,
        slos: Slos,
        catalog: CatalogStore,
        tenants: TenantDirectory,
        threads: Threads,
        rehearsals: Rehearsals,
    ) -> None:
        self._slos, self._catalog, self._tenants = slos, catalog, tenants
        self._threads, self._rehearsals = threads, rehearsals

    def rpcs(self) -> list[Rpc]:
        """The methods."""
        service = "/router.v1.Slos/"
        return [
            Rpc(name=service + "ListSlos", request=slos_pb2.ListSlosRequest, run=self.list),
            Rpc(name=service + "GetSlo", request=slos_pb2.GetSloRequest, run=self.get),
            Rpc(name=service + "PutSlo", request=slos_pb2.PutSloRequest, run=self.put),
            Rpc(name=service + "DryRunSlo", request=slos_pb2.DryRunSloRequest, run=self.dry_run),
        ]

    async def list(
        self, _request: slos_pb2.ListSlosRequest, caller: Identity
    ) -> slos_pb2.ListSlosResponse:
        """ListSlos."""
        found = await self._threads.run(self._slos.current, caller.tenant_id)
        return slos_pb2.ListSlosResponse(slos=map(slo_message, found))

    async def get(
        self, request: slos_pb2.GetSloRequest, caller: Identity
    ) -> slos_pb2.GetSloResponse:
        """GetSlo."""
        slo = await self._threads.run(
            self._slos.get,
            caller.tenant_id,
            fields.name(request.name, "name"),
            request.version,
        )
        return slos_pb2.GetSloResponse(slo=slo_message(slo))

    async def put(
        self, request: slos_pb2.PutSloRequest, caller: Identity
    ) -> slos_pb2.PutSloResponse:
        """PutSlo; this worker follows before it replies."""
        fields.optional_uuid(request.request_id, "request_id")
        slo = await self._threads.run(
            self._slos.put,
            caller.tenant_id,
            slo_of(request.slo),
            base_version=fields.optional(request, "base_version"),
            actor=actor(caller),
        )
        await self._tenants.load_slos(caller.tenant_id)
        catalog = await self._threads.run(self._catalog.read)
        return slos_pb2.PutSloResponse(slo=slo_message(slo), warnings=unknown_names(slo, catalog))

    async def dry_run(
        self, request: slos_pb2.DryRunSloRequest, caller: Identity
    ) -> slos_pb2.DryRunSloResponse:
        """DryRunSlo; a thread of its own does it, one at a time."""
        slo = slo_of(request.slo)
        window = fields.span(request, "window", WINDOW)
        found = await self._rehearsals.run(caller.tenant_id, slo, window)
        return message_of(slos_pb2.DryRunSloResponse, found)


class CatalogServicer:
    """Keeps the models and arms that all tenants share."""

    def __init__(self, read: CatalogStore, write: CatalogStore, threads: Threads) -> None:
        self._read, self._write, self._threads = read, write, threads

    def rpcs(self) -> list[Rpc]:
        """The methods."""
        service, pb = "/router.v1.Catalog/", catalog_pb2
        return [
            Rpc(name=service + "ListModels", request=pb.ListModelsRequest, run=self.list_models),
            Rpc(name=service + "PutModel", request=pb.PutModelRequest, run=self.put_model),
            Rpc(name=service + "ListArms", request=pb.ListArmsRequest, run=self.list_arms),
            Rpc(name=service + "PutArm", request=pb.PutArmRequest, run=self.put_arm),
        ]

    async def list_models(
        self, _request: catalog_pb2.ListModelsRequest, _caller: Identity
    ) -> catalog_pb2.ListModelsResponse:
        """ListModels."""
        catalog = await self._threads.run(self._read.read)
        return catalog_pb2.ListModelsResponse(
            models=map(model_message, catalog.models), revision=catalog.revision
        )

    async def put_model(
        self, request: catalog_pb2.PutModelRequest, caller: Identity
    ) -> catalog_pb2.PutModelResponse:
        """PutModel."""
        fields.optional_uuid(request.request_id, "request_id")
        revision = await self._threads.run(
            self._write.put_model, model_of(request.model), actor=actor(caller)
        )
        return catalog_pb2.PutModelResponse(revision=revision)

    async def list_arms(
        self, _request: catalog_pb2.ListArmsRequest, _caller: Identity
    ) -> catalog_pb2.ListArmsResponse:
        """ListArms."""
        catalog = await self._threads.run(self._read.read)
        return catalog_pb2.ListArmsResponse(
            arms=map(arm_message, catalog.arms), revision=catalog.revision
        )

    async def put_arm(
        self, request: catalog_pb2.PutArmRequest, caller: Identity
    ) -> catalog_pb2.PutArmResponse:
        """PutArm."""
        fields.optional_uuid(request.request_id, "request_id")
        revision = await self._threads.run(
            self._write.put_arm,
            arm_from(request.arm),
            enabled=request.enabled,
            actor=actor(caller),
        )
        return catalog_pb2.PutArmResponse(revision=revision)


class PoliciesServicer:
    """Shows and switches the policies.

    `verify` raises BundleRefused for a policy that would not be served: such a one is neither
    tried nor promoted, nor is one that `verifying` gives up on.
    """

    def __init__(
        self,
        read: Registry,
        write: Registry,
        verify: Callable[[PolicyRecord], object],
        threads: Threads,
        verifying: Threads,
    ) -> None:
        self._read, self._write, self._verify = read, write, verify
        self._threads, self._verifying = threads, verifying

    def rpcs(self) -> list[Rpc]:
        """The methods."""
        service, pb = "/router.v1.Policies/", policies_pb2
        return [
            Rpc(name=service + "ListPolicies", request=pb.ListPoliciesRequest, run=self.list),
            Rpc(name=service + "GetPolicy", request=pb.GetPolicyRequest, run=self.get),
            Rpc(name=service + "StartCanary", request=pb.StartCanaryRequest, run=self.canary),
            Rpc(name=service + "RejectPolicy", request=pb.RejectPolicyRequest, run=self.reject),
            Rpc(name=service + "PromotePolicy", request=pb.PromotePolicyRequest, run=self.promote),
            Rpc(
                name=service + "RollbackPolicy", request=pb.RollbackPolicyRequest, run=self.rollback
            ),
        ]

    async def list(
        self, request: policies_pb2.ListPoliciesRequest, _caller: Identity
    ) -> policies_pb2.ListPoliciesResponse:
        """ListPolicies."""
        limit = min(request.page_size, MOST_POLICIES) if request.page_size > 0 else 50
        records = await self._threads.run(self._read.records, limit)
        return policies_pb2.ListPoliciesResponse(policies=map(policy_message, records))

    async def get(
        self, request: policies_pb2.GetPolicyRequest, _caller: Identity
    ) -> policies_pb2.GetPolicyResponse:
        """GetPolicy."""
        record = await self._threads.run(self._record, request.version)
        return policies_pb2.GetPolicyResponse(policy=policy_message(record))

    async def canary(
        self, request: policies_pb2.StartCanaryRequest, caller: Identity
    ) -> policies_pb2.StartCanaryResponse:
        """StartCanary; a policy that would not be served is not tried either."""
        request_id = fields.optional_uuid(request.request_id, "request_id")
        comment = fields.short(request.comment, "comment", 1_000)
        record = await self._threads.run(self._record, request.version)
        await self._verifying.run(self._verify, record)
        record = await self._threads.run(
            self._write.canary,
            request.version,
            share=request.share,
            actor=actor(caller),
            comment=comment,
            request_id=request_id,
        )
        return policies_pb2.StartCanaryResponse(policy=policy_message(record))

    async def reject(
        self, request: policies_pb2.RejectPolicyRequest, caller: Identity
    ) -> policies_pb2.RejectPolicyResponse:
        """RejectPolicy."""
        record = await self._threads.run(
            self._write.reject,
            request.version,
            actor=actor(caller),
            comment=fields.short(request.comment, "comment", 1_000),
            request_id=fields.optional_uuid(request.request_id, "request_id"),
        )
        return policies_pb2.RejectPolicyResponse(policy=policy_message(record))

    async def promote(
        self, request: policies_pb2.PromotePolicyRequest, caller: Identity
    ) -> policies_pb2.PromotePolicyResponse:
        """PromotePolicy."""
        fields.optional_uuid(request.request_id, "request_id")
        comment = fields.short(request.comment, "comment", 1_000)
        record = await self._threads.run(self._record, request.version)
        await self._verifying.run(self._verify, record)
        record = await self._threads.run(
            self._write.promote, request.version, actor=actor(caller), comment=comment
        )
        return policies_pb2.PromotePolicyResponse(policy=policy_message(record))

    async def rollback(
        self, request: policies_pb2.RollbackPolicyRequest, caller: Identity
    ) -> policies_pb2.RollbackPolicyResponse:
        """RollbackPolicy."""
        record = await self._threads.run(
            self._write.rollback,
            actor=actor(caller),
            comment=fields.short(request.comment, "comment", 1_000),
            version=request.version,
            request_id=fields.optional_uuid(request.request_id, "request_id"),
        )
        return policies_pb2.RollbackPolicyResponse(
            policy=None if record is None else policy_message(record)
        )

    def _record(self, version: int) -> PolicyRecord:
        for record in self._read.records(MOST_POLICIES):
            if record.version == version:
                return record
        raise NotFound(
            f"there is no policy {version}; see 'leadline policies list'", reason="POLICY_NOT_FOUND"
        )
