"""The in-memory twin of a backend: it answers by a function, at once or in its time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from time import perf_counter

from router.execution.backend import BackendFailed, backend_failed
from router.execution.calls import Call, Completion, Failure, Piece, Said, Usage

Script = Callable[[Call], Completion | BackendFailed]
"""Says what a call brings, or how it fails."""


class ScriptedBackend:
    """Answers by a script. `calls` are those so far, `abandoned` counts those that were left."""

    def __init__(self, script: Script, *, wait_s: float = 0.0) -> None:
        self._script, self._wait_s = script, wait_s
        self.calls: list[Call] = []
        self.abandoned = 0

    async def complete(self, call: Call, *, timeout_s: float) -> Completion:
        """As Backend says."""
        self.calls.append(call)
        await self._wait(call, self._wait_s, timeout_s)
        return self._scripted(call)

    async def stream(self, call: Call, *, timeout_s: float) -> AsyncGenerator[Piece, None]:
        """As Backend says: word by word, where a failure comes after the first."""
        self.calls.append(call)
        started, outcome = perf_counter(), self._script(call)
        words = [""] if isinstance(outcome, BackendFailed) else _parts(outcome.said[0].text)
        for word in words:
            left_s = timeout_s - (perf_counter() - started)
            await self._wait(call, self._wait_s / len(words), left_s)
            if word:
                yield Piece(text=word)
        completion = _raised(outcome)
        if completion.said[0].tool_calls:
            yield Piece(tool_calls=completion.said[0].tool_calls)
        yield Piece(completion=completion)

    async def close(self) -> None:
        """As Backend says."""

    def _scripted(self, call: Call) -> Completion:
        return _raised(self._script(call))

    async def _wait(self, call: Call, wait_s: float, timeout_s: float) -> None:
        try:
            await asyncio.sleep(max(0.0, min(wait_s, timeout_s)))
        except asyncio.CancelledError:
            self.abandoned += 1
            raise
        if wait_s > timeout_s:
            raise backend_failed(Failure.TIMEOUT, call.model.name)


def saying(*texts: str, confidence: float | None = -0.5, tokens: int = 10) -> Completion:
    """A completion of so many answers, each of some tokens."""
    return Completion(
        said=tuple(Said(text=text, confidence=confidence) for text in texts),
        usage=Usage(input_tokens=5, output_tokens=tokens * len(texts)),
        latency_s=0.01,
        time_to_first_token_s=0.005,
    )


def _raised(outcome: Completion | BackendFailed) -> Completion:
    if isinstance(outcome, BackendFailed):
        raise outcome
    return outcome


def _parts(text: str) -> list[str]:
    return re.findall(r"\s*\S+|\s+$", text)
