"""Whole replies and the headers that all replies carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import orjson
from starlette.types import Send

from router.gateway.refusals import Refusal
from router.types import Arm

START = "http.response.start"
JSON = {"content-type": "application/json"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A reply that is sent at once."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Reply:
        """A value as JSON."""
        return cls(body=orjson.dumps(value))

    @classmethod
    def refusing(cls, refusal: Refusal) -> Reply:
        """A refusal."""
        return cls(body=refusal.body, status=refusal.status, headers=refusal.headers)

    async def send(self, send: Send) -> None:
        """Sends it."""
        told = {**JSON, **self.headers}
        if "x-request-id" not in told:
            told["x-request-id"] = uuid4().hex
        told["content-length"] = str(len(self.body))
        headers = [(name.encode(), text.encode()) for name, text in told.items()]
        await send({"type": START, "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": False})


def about(decision_id: UUID, attempt: int, arm: Arm) -> dict[str, str]:
    """The headers that tell how an answer came about; OpenAI's clients show the first."""
    return {
        "x-request-id": str(decision_id),
        "x-leadline-decision-id": str(decision_id),
        "x-leadline-attempt": str(attempt),
        "x-leadline-arm": arm.key.encode("ascii", "backslashreplace").decode(),
    }
