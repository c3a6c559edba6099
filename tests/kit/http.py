"""A bare HTTP client for measuring: what it takes itself is next to nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass(slots=True)
class Connection:
    """One connection to a server, which it keeps."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def post(self, path: str, body: dict[str, Any]) -> tuple[int, bytes]:
        """Sends and reads a whole reply: its status and body."""
        headers = await self.begin(path, body)
        status, length = _status(headers), _length(headers)
        return status, await self.reader.readexactly(length)

    async def begin(self, path: str, body: dict[str, Any]) -> bytes:
        """Sends and reads a reply's head."""
        content = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            f"authorization: Bearer none\r\ncontent-length: {len(content)}\r\n\r\n"
        )
        self.writer.write(head.encode() + content)
        return await self.reader.readuntil(b"\r\n\r\n")

    async def stream(self, path: str, body: dict[str, Any]) -> int:
        """Reads a stream to its end; returns its status."""
        status = _status(await self.begin(path, body))
        await self.reader.readuntil(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        return status


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    """A connection to the host of the URL."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1 << 24)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()


def _status(headers: bytes) -> int:
    return int(headers.split(b" ", 2)[1])


def _length(headers: bytes) -> int:
    lines = headers.lower().split(b"\r\n")
    return next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
