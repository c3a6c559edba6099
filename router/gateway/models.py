"""GET /v1/models."""

from __future__ import annotations

from typing import Any

from starlette.types import Send

from router.errors import NotFound
from router.gateway.guarding import Exchange
from router.gateway.naming import listed
from router.gateway.replies import Reply
from router.serving.state import Current
from router.serving.tenants import TenantDirectory
from router.types import Identity


class ModelsPath:
    """Lists what a caller may name as the model of a request."""

    def __init__(self, current: Current, tenants: TenantDirectory) -> None:
        self._current, self._tenants = current, tenants

    async def all(self, exchange: Exchange, send: Send) -> int:
        """All of them."""
        reply = {"object": "list", "data": await self._listed(exchange.caller)}
        await Reply.of(reply).send(send)
        return 200

    async def get(self, exchange: Exchange, send: Send) -> int:
        """One of them. Raises NotFound."""
        name = exchange.path["name"]
        for each in await self._listed(exchange.caller):
            if each["id"] == name:
                await Reply.of(each).send(send)
                return 200
        raise NotFound(
            f"there is no model {name!r:.120}; GET /v1/models lists those there are",
            reason="MODEL_NOT_FOUND",
        )

    async def _listed(self, caller: Identity) -> list[dict[str, Any]]:
        slos = self._tenants.slos(caller.tenant_id)
        if slos is None:
            slos = await self._tenants.load_slos(caller.tenant_id)
        return listed(self._current.state, slos)
