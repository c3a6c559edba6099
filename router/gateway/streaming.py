"""Writes an execution as a stream of server-sent events.

The response starts with the first text, or when none has come in a second: an error before
that still has its own status. A later one comes as an event, which clients raise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from starlette.types import Send

from router.errors import LeadlineError
from router.execution.calls import Said
from router.execution.events import Decided, Event, Final, Partial, Progress
from router.gateway.hearing import Hearing
from router.gateway.refusals import refusal
from router.gateway.replies import START, about
from router.gateway.writing import DONE, Chunks, added, comment, event, whole_calls
from router.types import Arm

MOST_HELD = 32
CHARACTERS = 1_024
"""An answer that comes whole is sent in pieces of so many characters."""

_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache, no-transform",
    "x-accel-buffering": "no",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long a response is held for its first text, and how long a stream may be silent."""

    hold_s: float = 1.0
    silent_s: float = 10.0


PACE = Pace()


class Stream:
    """One answer as it is written to a client."""

    def __init__(self, send: Send, pace: Pace, *, include_usage: bool) -> None:
        self._send, self._pace, self._include_usage = send, pace, include_usage
        self._decided: Decided | None = None
        self._chunks: Chunks | None = None
        self._held: list[bytes] = []
        self._text_sent = self._calls_sent = False
        self.started = self.ended = False

    async def write(self, hearing: Hearing) -> None:
        """Writes until the end. Raises LeadlineError; the client hears of it by `fail`."""
        clock = asyncio.get_running_loop().time
        until = clock() + self._pace.hold_s
        while not self.ended:
            patience_s = self._pace.silent_s if self.started else max(0.0, until - clock())
            await self._hear(await hearing.next(patience_s))

    async def fail(self, error: LeadlineError) -> None:
        """Ends a stream that has started with an error."""
        self.ended = True
        await self._emit(event({"error": refusal(error).error}), more=False)

    async def _hear(self, heard: Event | None) -> None:
        match heard:
            case Decided():
                await self._decide(heard)
            case Progress():
                await self._comment(heard.note)
            case Partial():
                await self._part(heard)
            case Final():
                await self._end(heard)
            case None:
                await self._start()
                await self._comment("waiting")

    async def _decide(self, decided: Decided) -> None:
        """Raises LeadlineError where another attempt voids text that was sent."""
        if self._chunks is not None:
            raise LeadlineError(
                "the backend failed after a part of its answer was sent; ask again",
                reason="ANSWER_BROKEN_OFF",
            )
        self._decided = decided
        await self._comment(f"attempt {decided.attempt}: {decided.arm.key}")

    async def _comment(self, note: str) -> None:
        if self.started:
            await self._emit(comment(note))
        elif len(self._held) < MOST_HELD:
            self._held.append(comment(note))

    async def _part(self, partial: Partial) -> None:
        decided = self._decided
        if decided is None or not (partial.text or partial.tool_calls):
            return
        chunks = await self._begin(decided.decision_id, partial.attempt, decided.arm)
        self._text_sent |= bool(partial.text)
        self._calls_sent |= bool(partial.tool_calls)
        await self._emit(chunks.delta(0, partial.text, partial.tool_calls))

    async def _end(self, final: Final) -> None:
        chunks = await self._begin(final.decision_id, final.attempt, final.arm)
        lines = [*self._rest(chunks, 0, final.answer.said)]
        for index, said in enumerate(final.answer.others, 1):
            lines += [chunks.first(index), *_whole(chunks, index, said)]
        if self._include_usage:
            lines.append(chunks.usage(final))
        told = added(final)
        lines.append(comment(f"leadline cost_usd={told['cost_usd']:.9f} arm={told['arm']}"))
        self.ended = True
        await self._emit(b"".join([*lines, DONE]), more=False)

    async def _begin(self, decision_id: UUID, attempt: int, arm: Arm) -> Chunks:
        """The chunks of the answer, of which the first is sent once."""
        if self._chunks is None:
            self._chunks = Chunks(decision_id, attempt, arm.model)
            await self._start(about(decision_id, attempt, arm))
            await self._emit(self._chunks.first(0))
        return self._chunks

    def _rest(self, chunks: Chunks, index: int, said: Said) -> Iterator[bytes]:
        """What was not sent as it was written."""
        if not self._text_sent:
            yield from _text(chunks, index, said)
        if not self._calls_sent and said.tool_calls:
            yield chunks.delta(index, tool_calls=whole_calls(said.tool_calls))
        yield chunks.last(index, said.finish_reason)

    async def _start(self, told: dict[str, str] | None = None) -> None:
        if self.started:
            return
        self.started = True
        decided = self._decided
        if told is None and decided is not None:
            told = about(decided.decision_id, decided.attempt, decided.arm)
        headers = [
            (name.encode(), text.encode()) for name, text in (_HEADERS | (told or {})).items()
        ]
        await self._send({"type": START, "status": 200, "headers": headers})
        await self._emit(b"".join(self._held))

    async def _emit(self, lines: bytes, *, more: bool = True) -> None:
        await self._send({"type": "http.response.body", "body": lines, "more_body": more})


def _whole(chunks: Chunks, index: int, said: Said) -> Iterator[bytes]:
    yield from _text(chunks, index, said)
    if said.tool_calls:
        yield chunks.delta(index, tool_calls=whole_calls(said.tool_calls))
    yield chunks.last(index, said.finish_reason)


def _text(chunks: Chunks, index: int, said: Said) -> Iterator[bytes]:
    for start in range(0, len(said.text), CHARACTERS):
        yield chunks.delta(index, said.text[start : start + CHARACTERS])
