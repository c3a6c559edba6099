"""What both clients know of their server: address, key, TLS, and how long they try.

Nothing here waits or connects: the two clients do, and ask this what to do next.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from router.clients.errors import error_of
from router.errors import InvalidInput

DEFAULT_ADDRESS = "localhost:50051"
OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
)
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.025, 1.0

_RETRIED = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Certificates in PEM files; without `ca` the system's own authorities are trusted.

    `certificate` and `key` are this client's, for a server that asks for them (mTLS).
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """The credentials that gRPC takes. Raises OSError when a file cannot be read."""
        return grpc.ssl_channel_credentials(
            root_certificates=_read(self.ca),
            private_key=_read(self.key),
            certificate_chain=_read(self.certificate),
        )


def _read(path: Path | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Where and as whom to call; the key is not shown in repr."""

    address: str
    metadata: tuple[tuple[str, str | bytes], ...]
    credentials: grpc.ChannelCredentials | None
    timeout_s: float

    @classmethod
    def of(
        cls, *, address: str | None, api_key: str | None, tls: bool | Tls, timeout_s: float
    ) -> Connection:
        """Fills in LEADLINE_ADDRESS and LEADLINE_API_KEY where nothing is given."""
        if not timeout_s > 0:
            raise InvalidInput(f"{timeout_s} is not a positive number", field="timeout_s")
        key = os.environ.get("LEADLINE_API_KEY", "") if api_key is None else api_key
        given = Tls() if tls is True else tls
        return cls(
            address=address or os.environ.get("LEADLINE_ADDRESS") or DEFAULT_ADDRESS,
            metadata=(("authorization", f"Bearer {key}"),) if key else (),
            credentials=given.credentials() if given else None,
            timeout_s=timeout_s,
        )

    def patience(self, now_s: float) -> Patience:
        """How long a call that starts now is tried."""
        return Patience(address=self.address, ends_s=now_s + self.timeout_s)

    def __repr__(self) -> str:
        return f"Connection({self.address!r}, timeout_s={self.timeout_s})"


class Patience:
    """One call's deadline and its pauses between attempts, for clocks that count seconds."""

    def __init__(
        self,
        *,
        address: str,
        ends_s: float,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._address = address
        self._ends_s = ends_s
        self._draw = draw
        self._pause_s = FIRST_PAUSE_S

    def left_s(self, now_s: float) -> float:
        """Time that is left, for the next attempt's deadline."""
        return max(self._ends_s - now_s, 0.001)

    def pause_s(self, error: grpc.RpcError, now_s: float) -> float:
        """How long to wait before the same request again, or raises what the error means.

        The server was away (UNAVAILABLE) or slow (DEADLINE_EXCEEDED), and time is left:
        trying again is safe, since every request that changes anything names itself. The
        pause is drawn below a bound that doubles, so that many clients do not return at once.
        """
        pause_s = self._draw() * self._pause_s
        status: Any = error
        if status.code() not in _RETRIED or now_s + pause_s >= self._ends_s:
            raise error_of(error, self._address) from None
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        return pause_s
