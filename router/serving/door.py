"""The one door to decisions: gRPC's requests come through it, and the gateway's and executor's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from router.errors import LeadlineError
from router.serving.asked import Asked
from router.serving.gathering import MOST_TOGETHER, Gathering
from router.serving.routing import Routing, Waiting
from router.serving.rows import Row
from router.serving.tenants import NamedSlos, TenantDirectory
from router.types import Identity


class Door:
    """Decides for callers; belongs to a worker's event loop."""

    def __init__(self, routing: Routing, tenants: TenantDirectory) -> None:
        self._routing, self._tenants = routing, tenants
        self._gathering = Gathering(routing)

    async def decide(self, question: Asked, caller: Identity) -> Row:
        """The decision's row, once it is in the outbox. Raises LeadlineError."""
        slos = await self._slos(caller)
        return await self._gathering.route(await self._ready(question, caller, slos))

    async def decide_alone(self, question: Asked, caller: Identity) -> Row:
        """As `decide`, at once: for calls beside whose other cost a shared decision saves little.

        One in eight requests waits to see whether others come, longer than deciding takes.
        """
        ready = await self._ready(question, caller, await self._slos(caller))
        [found] = self._routing.answer([ready])
        if isinstance(found, LeadlineError):
            raise found
        return found

    async def decide_many(
        self, questions: Sequence[Asked | LeadlineError], caller: Identity
    ) -> list[Row | LeadlineError]:
        """The rows, some at a time, with errors in their places; others have turns in between."""
        slos = await self._slos(caller)
        taken = [await self._taken(each, caller, slos) for each in questions]
        waiting = [each for each in taken if isinstance(each, Waiting)]
        answers = []
        for start in range(0, len(waiting), MOST_TOGETHER):
            answers += self._routing.answer(waiting[start : start + MOST_TOGETHER])
            await asyncio.sleep(0)
        answered = iter(answers)
        return [next(answered) if isinstance(each, Waiting) else each for each in taken]

    async def _ready(self, question: Asked, caller: Identity, slos: NamedSlos) -> Waiting:
        waiting = self._routing.take(question, caller, slos)
        await self._routing.ready(waiting)
        return waiting

    async def _slos(self, caller: Identity) -> NamedSlos:
        slos = self._tenants.slos(caller.tenant_id)
        return await self._tenants.load_slos(caller.tenant_id) if slos is None else slos

    async def _taken(
        self, question: Asked | LeadlineError, caller: Identity, slos: NamedSlos
    ) -> Waiting | LeadlineError:
        if isinstance(question, LeadlineError):
            return question
        try:
            return await self._ready(question, caller, slos)
        except LeadlineError as error:
            return error
