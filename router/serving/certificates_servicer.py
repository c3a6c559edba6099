"""The certificates of the service Slos: what is promised of a tenant's floors, read alone."""

from __future__ import annotations

from router.clients.mapping import stamp
from router.errors import InvalidInput
from router.serving import fields
from router.serving.edge import Rpc
from router.serving.threads import Threads
from router.store.promise_seams import CertificateRecord, MonitorRecord, Promises
from router.types import Identity
from router.v1 import slos_pb2 as pb

MOST, USUAL = 1_000, 50


class CertificatesServicer:
    """Lists and gets the caller's own tenant's certificates."""

    def __init__(self, promises: Promises, threads: Threads) -> None:
        self._promises, self._threads = promises, threads

    def rpcs(self) -> list[Rpc]:
        """The methods."""
        service = "/router.v1.Slos/"
        return [
            Rpc(
                name=service + "ListCertificates", request=pb.ListCertificatesRequest, run=self.list
            ),
            Rpc(name=service + "GetCertificate", request=pb.GetCertificateRequest, run=self.get),
        ]

    async def list(
        self, request: pb.ListCertificatesRequest, caller: Identity
    ) -> pb.ListCertificatesResponse:
        """ListCertificates."""
        if not 0 <= request.limit <= MOST:
            raise InvalidInput(f"{request.limit} is not from 1 to {MOST:,}", field="limit")
        slo, limit = fields.short(request.slo, "slo", 128), request.limit or USUAL
        tenant_id = caller.tenant_id
        found = await self._threads.run(self._promises.certificates, tenant_id, slo, limit)
        current = await self._threads.run(self._promises.current, tenant_id)
        return pb.ListCertificatesResponse(
            certificates=map(_certificate, found),
            monitors=[
                _monitor(each.monitor)
                for name, each in current.items()
                if each.monitor is not None and slo in ("", name)
            ],
        )

    async def get(
        self, request: pb.GetCertificateRequest, caller: Identity
    ) -> pb.GetCertificateResponse:
        """GetCertificate."""
        wanted = fields.uuid(request.certificate_id, "certificate_id")
        found = await self._threads.run(self._promises.certificate, caller.tenant_id, wanted)
        return pb.GetCertificateResponse(certificate=_certificate(found))


def _certificate(record: CertificateRecord) -> pb.Certificate:
    message = pb.Certificate(
        certificate_id=str(record.certificate_id),
        slo=record.slo_name,
        slo_version=record.slo_version,
        policy_version=record.policy_version,
        created_at=stamp(record.created_at),
    )
    message.statement.update(dict(record.body))
    return message


def _monitor(record: MonitorRecord) -> pb.Monitor:
    message = pb.Monitor(
        slo=record.slo_name, state=record.state, updated_at=stamp(record.updated_at)
    )
    message.counted.update(dict(record.body))
    return message
