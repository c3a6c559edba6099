"""A connection that has to ask soon, so that idle and dripping ones do not pile up."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_S = 10.0


class Connection(H11Protocol):
    """One connection; it is closed when its first request has no whole head by then."""

    within_s = REQUEST_S
    _asking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begins to wait."""
        super().connection_made(transport)
        self._asking = self.loop.call_later(self.within_s, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Waits no longer."""
        super().connection_lost(exc)
        if self._asking is not None:
            self._asking.cancel()

    def _give_up(self) -> None:
        asked: object = self.cycle
        if asked is None and not self.transport.is_closing():
            self.transport.close()
