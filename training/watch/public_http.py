"""HTTP to public addresses alone, and only for so long: for addresses that tenants choose.

The address that is checked is the one that is connected to, so that a name which changes
between the two leads nowhere. No proxy is asked.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from functools import partial
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.request import BaseHandler, HTTPHandler, HTTPSHandler, ProxyHandler, Request

from router.webhooks import is_public

MOST_ADDRESSES = 3

Allowed = Callable[[str], bool]


class PrivateAddress(OSError):
    """The host's name leads to a private address, which a tenant may not reach from here."""


def handlers(
    allowed: Allowed = is_public, context: ssl.SSLContext | None = None
) -> list[BaseHandler]:
    """What an opener needs, to reach no address but those that are allowed."""
    tls = context or ssl.create_default_context()
    return [ProxyHandler({}), _Plain(allowed), _Secure(allowed, tls)]


def connected(host: str, port: int, timeout_s: float, allowed: Allowed) -> socket.socket:
    """A socket to the host. Raises PrivateAddress when any of its addresses is not allowed."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(place[0]) for *_, place in found))
    if not addresses or not all(map(allowed, addresses)):
        raise PrivateAddress
    tried = addresses[:MOST_ADDRESSES]
    made = _first(tried, port, timeout_s / len(tried))
    made.settimeout(timeout_s)
    return made


def _first(addresses: list[str], port: int, timeout_s: float) -> socket.socket:
    for address in addresses[:-1]:
        with contextlib.suppress(OSError):
            return socket.create_connection((address, port), timeout_s)
    return socket.create_connection((addresses[-1], port), timeout_s)


class _Deadline:
    """Cuts a connection off when its time is over, however slowly the other side answers."""

    def __init__(self, seconds: float) -> None:
        self._lock, self._over = threading.Lock(), False
        self._socket: socket.socket | None = None
        timer = threading.Timer(seconds, self._cut)
        timer.daemon = True
        timer.start()

    def holds(self, used: socket.socket) -> None:
        """Names the socket to cut off."""
        with self._lock:
            self._socket = used
            if self._over:
                raise TimeoutError

    def _cut(self) -> None:
        with self._lock, contextlib.suppress(OSError):
            self._over = True
            if self._socket is not None:
                # Not SSLSocket's own, which would pull the session from under a read.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class _PlainConnection(HTTPConnection):
    def __init__(self, host: str, *, allowed: Allowed, timeout: float) -> None:
        super().__init__(host, timeout=timeout)
        self._allowed, self._seconds = allowed, timeout

    def connect(self) -> None:
        deadline = _Deadline(self._seconds)
        self.sock = connected(self.host, self.port, self._seconds, self._allowed)
        deadline.holds(self.sock)


class _SecureConnection(HTTPSConnection):
    def __init__(
        self, host: str, *, allowed: Allowed, timeout: float, context: ssl.SSLContext
    ) -> None:
        super().__init__(host, timeout=timeout, context=context)
        self._allowed, self._seconds, self._tls = allowed, timeout, context

    def connect(self) -> None:
        deadline = _Deadline(self._seconds)
        plain = connected(self.host, self.port, self._seconds, self._allowed)
        wrap = partial(self._tls.wrap_socket, do_handshake_on_connect=False)
        self.sock = wrapped = wrap(plain, server_hostname=self.host)
        deadline.holds(wrapped)
        wrapped.do_handshake()


class _Plain(HTTPHandler):
    def __init__(self, allowed: Allowed) -> None:
        super().__init__()
        self._make: Any = partial(_PlainConnection, allowed=allowed)

    def http_open(self, req: Request) -> HTTPResponse:
        return self.do_open(self._make, req)


class _Secure(HTTPSHandler):
    def __init__(self, allowed: Allowed, context: ssl.SSLContext) -> None:
        super().__init__(context=context)
        self._make: Any = partial(_SecureConnection, allowed=allowed, context=context)

    def https_open(self, req: Request) -> HTTPResponse:
        return self.do_open(self._make, req)
