"""The connections to one endpoint, as the official client wants them, kept by aiohttp.

Its parser is in C: a short call takes a third less of a core than by httpx2's own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx2

KEEP_ALIVE_S = 4.0
"""Servers commonly close a connection after 5 s without a call, which a call must not meet."""

READABLE = {"accept-encoding": "gzip, deflate"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A whole reply, its content unpacked."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Connections(httpx2.AsyncClient):
    """Sends requests as they are; bounds neither their time nor their number.

    Redirects are followed; a proxy is the one that the environment names for the endpoint.
    Belongs to one event loop.
    """

    def __init__(self) -> None:
        self._trusted = httpx2.create_ssl_context()
        super().__init__(verify=self._trusted)
        self._session: aiohttp.ClientSession | None = None

    def build_request(
        self, method: str, url: Any, *, headers: Any = None, content: Any = None, **_: Any
    ) -> httpx2.Request:
        """The request; the client has nothing of its own to add."""
        return httpx2.Request(method, _url(str(url)), headers=headers, content=content)

    async def send(
        self, request: httpx2.Request, *, stream: bool = False, **_: Any
    ) -> httpx2.Response:
        """Sends it, and reads the reply unless it streams. Raises httpx2.TransportError."""
        session = self._session or self._opened(request.url)
        with _translated():
            reply = await session.request(
                request.method,
                str(request.url),
                headers=request.headers,
                data=request.content or None,
            )
            content = None if stream else await reply.read()
        return httpx2.Response(
            reply.status,
            headers=reply.raw_headers,
            content=content,
            stream=_Coming(reply) if stream else None,
            request=request,
        )

    async def ask(self, url: str, headers: Mapping[str, str], content: bytes) -> Reply:
        """Sends a body and reads the whole reply. Raises as `send` does.

        Without httpx2's requests and replies, nor the official client's, a short call takes
        a third of the time.
        """
        session = self._session or self._opened(_url(url))
        with _translated():
            reply = await session.post(url, headers=headers, data=content, auto_decompress=True)
            return Reply(status=reply.status, headers=reply.headers, content=await reply.read())

    async def aclose(self) -> None:
        """Closes them all."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
        await super().aclose()

    def _opened(self, url: httpx2.URL) -> aiohttp.ClientSession:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, keepalive_timeout=KEEP_ALIVE_S, ssl=self._trusted
            ),
            timeout=aiohttp.ClientTimeout(total=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=READABLE,
            auto_decompress=False,
            proxy=None if proxy_bypass(url.host) else getproxies().get(url.scheme),
        )
        return self._session


_url = lru_cache(64)(httpx2.URL)
"""Parsed once, since every call of an endpoint has the same."""


class _Coming(httpx2.AsyncByteStream):
    """A reply's body as it comes; closing it early closes its connection."""

    def __init__(self, reply: aiohttp.ClientResponse) -> None:
        self._reply = reply

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _translated():
            async for part in self._reply.content.iter_any():
                yield part

    async def aclose(self) -> None:
        """Closes it."""
        self._reply.close()


@contextmanager
def _translated() -> Iterator[None]:
    """Raises aiohttp's errors as those of httpx2, which the official client knows."""
    try:
        yield
    except (aiohttp.ClientConnectorError, aiohttp.InvalidURL) as error:
        raise httpx2.ConnectError(type(error).__name__) from error
    except aiohttp.ClientError as error:
        raise httpx2.ReadError(type(error).__name__) from error
