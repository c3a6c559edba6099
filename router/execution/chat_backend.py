"""What backends share whose library takes and gives OpenAI's chat completions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from time import perf_counter
from typing import Any

from router.errors import LeadlineError
from router.execution.backend import backend_failed
from router.execution.calls import Call, Completion, Failure, Piece
from router.execution.failures import failed
from router.execution.reading import Writing, guessed, read
from router.execution.wording import body

Create = Callable[..., Awaitable[Any]]
"""Sends a request once, with the arguments of `chat.completions.create`."""


class ChatBackend:
    """Sends each call once and reads what comes."""

    def __init__(self, create: Create, close: Callable[[], Awaitable[None]]) -> None:
        self._create, self._close = create, close

    async def complete(self, call: Call, *, timeout_s: float) -> Completion:
        """As Backend says."""
        started = perf_counter()
        try:
            async with asyncio.timeout(timeout_s):
                completion = await self._create(**body(call), timeout=timeout_s)
            return read(completion, call, perf_counter() - started)
        except LeadlineError:
            raise
        except Exception as error:  # noqa: BLE001 (whatever the library raises is a failure)
            raise failed(error, call, guessed(call)) from None

    async def stream(self, call: Call, *, timeout_s: float) -> AsyncGenerator[Piece, None]:
        """As Backend says."""
        started = perf_counter()
        ends_at, writing = asyncio.get_running_loop().time() + timeout_s, Writing(call)
        try:
            async with asyncio.timeout_at(ends_at):
                chunks = await self._create(
                    **body(call),
                    stream=True,
                    stream_options={"include_usage": True},
                    timeout=timeout_s,
                )
            async with aclosing(_closing(chunks)) as coming:
                while (chunk := await _next(coming, ends_at)) is not None:
                    text, calls = writing.add(chunk, perf_counter() - started)
                    if text or calls:
                        yield Piece(text=text, tool_calls=calls)
        except LeadlineError:
            raise
        except Exception as error:  # noqa: BLE001 (as above)
            raise failed(error, call, writing.spent) from None
        if not writing.finish_reason or writing.is_nothing:
            failure = Failure.GARBAGE if writing.is_nothing else Failure.BROKEN_OFF
            raise backend_failed(failure, call.model.name, usage=writing.spent)
        yield Piece(completion=writing.completion(perf_counter() - started))

    async def close(self) -> None:
        """As Backend says."""
        await self._close()


async def _closing(chunks: Any) -> AsyncGenerator[Any, None]:
    """The chunks; closing this closes the connection."""
    close = getattr(chunks, "close", None) or getattr(chunks, "aclose", None)
    try:
        async for chunk in chunks:
            yield chunk
    finally:
        if close is not None:
            await close()


async def _next(coming: AsyncGenerator[Any, None], ends_at: float) -> Any:
    """The next chunk, None at the end. Raises TimeoutError at `ends_at` of the loop's clock."""
    async with asyncio.timeout_at(ends_at):
        return await anext(coming, None)
