"""Runs decisions: an arm, its evidence, what follows it, and what became of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from router.execution.deciding import Decider, Request
from router.execution.events import Event


class Executes(Protocol):
    """Answers requests."""

    def execute(self, request: Request, decider: Decider) -> AsyncGenerator[Event, None]:
        """What happens, as it happens; the last event is Final.

        Closing it ends the calls that are under way. Raises what `decider.route` does, and
        BackendFailed where no arm gave an answer.
        """
        ...
