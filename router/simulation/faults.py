"""Faults that the simulated provider is told to show, and what it counts."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, Field

MOST_TIMES = 1_000_000


class Kind(StrEnum):
    """How a call goes wrong."""

    RATE_LIMIT = "rate_limit"  # 429, with Retry-After where `seconds` says so
    ERROR = "error"  # 500
    GARBAGE = "garbage"  # 200, and what is no JSON
    HALF = "half"  # the connection closes in the middle of the answer
    CLOSE = "close"  # the connection closes before any of the answer
    HANG = "hang"  # nothing for `seconds`, then the answer


class Fault(BaseModel):
    """One fault for the next `times` calls of a model, of any model where it names none."""

    kind: Kind
    model: str = ""
    times: int = Field(MOST_TIMES, ge=1, le=MOST_TIMES)
    seconds: float | None = Field(None, ge=0, le=3600)


class Faults:
    """Hands out faults in the order in which they were set."""

    def __init__(self) -> None:
        self._left: list[Fault] = []

    def set(self, faults: list[Fault]) -> None:
        """Replaces what is left; an empty list ends all faults."""
        self._left = list(faults)

    def next(self, model: str) -> Fault | None:
        """The fault of this call, None for an answer."""
        for place, fault in enumerate(self._left):
            if fault.model in {"", model}:
                left = fault.times - 1
                self._left[place : place + 1] = (
                    [fault.model_copy(update={"times": left})] if left else []
                )
                return fault
        return None


@dataclass(slots=True)
class Counters:
    """Calls so far: all, answered in full, with a fault, left by the client.

    `abandoned_at` is when the last client was seen to leave, in epoch seconds.
    """

    calls: int = 0
    answered: int = 0
    faulty: int = 0
    abandoned: int = 0
    abandoned_at: float = 0.0

    def leave(self) -> None:
        """Notes that a client has left."""
        self.abandoned += 1
        self.abandoned_at = time.time()

    def as_dict(self) -> dict[str, Any]:
        """The counters by their names."""
        return asdict(self)
