"""A caller for tests of strategies: a function answers, and what is spent is counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from router.execution.calls import Completion, Message, Options, Piece, Said, Usage
from router.execution.strategy import Allowance, AllowanceSpent

UNBOUNDED = Allowance()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One call as the strategy made it; `number` counts calls from 0."""

    number: int
    messages: tuple[Message, ...]
    options: Options
    samples: int
    thought_tokens: int | None

    @property
    def last(self) -> str:
        """The text of the last message."""
        return str(self.messages[-1]["content"])


Reply = Callable[[Asked], Completion]
"""Answers a call, or raises."""


def completion(*texts: str, tokens: int = 10, confidence: float | None = -0.5) -> Completion:
    """So many answers, each of some tokens."""
    said = tuple(Said(text=text, confidence=confidence) for text in texts)
    usage = Usage(input_tokens=5, output_tokens=tokens * len(texts))
    return Completion(said=said, usage=usage, latency_s=1.0, time_to_first_token_s=0.1)


def cut(text: str, tokens: int) -> Completion:
    """One answer that ended at the limit of tokens."""
    made = completion(text, tokens=tokens)
    return replace(made, said=(replace(made.said[0], finish_reason="length"),))


class QuietCaller:
    """What callers without bounds, streams and listeners have in common."""

    reasons = streams = False

    def stream(
        self,
        messages: Sequence[Message],
        options: Options,
        *,
        thought_tokens: int | None = None,
    ) -> AsyncGenerator[Piece, None]:
        """Is not asked for."""
        raise NotImplementedError

    def left(self) -> Allowance:
        """All there is."""
        return UNBOUNDED

    def tell(self, progress: str) -> None:
        """Tells nobody."""

    def write(self, piece: Piece) -> None:
        """Writes to nobody."""


@dataclass(kw_only=True)
class TestCaller:
    """Counts a call with n samples as n, and cuts what is asked for to what is left."""

    __test__ = False
    reply: Reply
    allowance: Allowance = UNBOUNDED
    reasons: bool = False
    streams: bool = False
    pause_s: float = 0.0
    asked: list[Asked] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    written: list[Piece] = field(default_factory=list)
    samples: int = 0
    output_tokens: int = 0
    under_way: int = 0
    most_under_way: int = 0

    async def ask(
        self,
        messages: Sequence[Message],
        options: Options,
        *,
        samples: int = 1,
        thought_tokens: int | None = None,
    ) -> Completion:
        """As Caller says."""
        left = self.left()
        if left.calls < 1 or left.output_tokens < 1:
            raise AllowanceSpent
        asked = Asked(
            number=len(self.asked),
            messages=tuple(messages),
            options=options,
            samples=int(min(samples, left.calls)),
            thought_tokens=thought_tokens,
        )
        self.asked.append(asked)
        self.samples += asked.samples
        return await self._answered(asked)

    async def _answered(self, asked: Asked) -> Completion:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(self.pause_s)
            made = self.reply(asked)
        finally:
            self.under_way -= 1
        self.output_tokens += made.usage.output_tokens
        return made

    async def stream(
        self,
        messages: Sequence[Message],
        options: Options,
        *,
        thought_tokens: int | None = None,
    ) -> AsyncGenerator[Piece, None]:
        """The whole answer in pieces of four characters."""
        made = await self.ask(messages, options, thought_tokens=thought_tokens)
        text = made.said[0].text
        for start in range(0, len(text), 4):
            yield Piece(text=text[start : start + 4])
        yield Piece(completion=made)

    def left(self) -> Allowance:
        """As Caller says."""
        return replace(
            self.allowance,
            calls=self.allowance.calls - self.samples,
            output_tokens=self.allowance.output_tokens - self.output_tokens,
        )

    def tell(self, progress: str) -> None:
        """Keeps it."""
        self.told.append(progress)

    def write(self, piece: Piece) -> None:
        """Keeps it."""
        self.written.append(piece)


async def drained(pieces: AsyncGenerator[Piece, None]) -> list[Piece]:
    """Every piece of a stream."""
    async with aclosing(pieces):
        return [piece async for piece in pieces]
