"""A user's function as verifier."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from router.execution.strategy import Caller
from router.execution.verifiers.verdict import CANNOT_TELL, PASSES, Checked, Verdict

MOST_SECONDS = 10.0

Check = Callable[[str, Mapping[str, Any]], "bool | float | Verdict"]
"""Takes the answer and the verifier's settings; says whether it is right, how right, or all."""

_log = structlog.get_logger(__name__)


class FunctionVerifier:
    """Calls a function in a thread; one that raises or takes too long cannot tell."""

    def __init__(self, check: Check, *, seconds: float = MOST_SECONDS) -> None:
        self._check, self._seconds = check, seconds

    async def verify(self, checked: Checked, caller: Caller) -> Verdict:
        """As Verifier says."""
        limit = min(self._seconds, caller.left().seconds)
        try:
            async with asyncio.timeout(limit):
                found = await asyncio.to_thread(self._check, checked.text, checked.params)
        except Exception as error:  # noqa: BLE001 (a user's code may raise anything)
            _log.warning("a verifier's function failed", error=type(error).__name__)
            return CANNOT_TELL
        return found if isinstance(found, Verdict) else scored(found)


def scored(found: object) -> Verdict:
    """The verdict that a boolean or a number in [0, 1] stands for."""
    if not isinstance(found, bool | float | int) or not 0 <= found <= 1:
        return CANNOT_TELL
    return Verdict(passed=found >= PASSES, score=float(found))
