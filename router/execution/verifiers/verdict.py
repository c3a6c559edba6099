"""The seam to verifiers: what is said of an answer before the truth is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from router.execution.calls import Message, Said
from router.execution.strategy import Caller, Task

PASSES = 0.8
"""A score from which on an answer passes, where a verifier gives nothing but a score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a verifier found. `score` is in [0, 1]; `feedback` tells the model what to mend.

    An answer of which the verifier could not tell has neither passed nor a score.
    """

    passed: bool = False
    score: float | None = None
    feedback: str = ""


CANNOT_TELL = Verdict()


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """An answer to be verified; `extracted` is the answer alone, None where none was read."""

    task: Task
    said: Said
    extracted: str | None

    @property
    def params(self) -> Mapping[str, Any]:
        """The verifier's settings."""
        return self.task.verifier_params or {}

    @property
    def text(self) -> str:
        """The answer alone, or else all that was said."""
        return self.said.text if self.extracted is None else self.extracted


class Verifier(Protocol):
    """Checks answers; the same answer twice gets the same verdict, but by a model.

    Calls side by side are fine. One that fails or takes too long says CANNOT_TELL.
    """

    async def verify(self, checked: Checked, caller: Caller) -> Verdict:
        """Raises AllowanceSpent and BackendFailed where it asks a model."""
        ...


def texts(messages: tuple[Message, ...]) -> str:
    """The text of a conversation, each message after its role."""
    return "\n\n".join(f"{each.get('role')}: {_text(each.get('content'))}" for each in messages)


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))
