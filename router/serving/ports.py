"""The port that all workers share: free before they start, and held while they do."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Self

from router.errors import ConfigurationError


class HeldPort:
    """A port that is bound with SO_REUSEPORT and never listened on, so that no call lands here.

    Raises ConfigurationError that names the port when somebody has it, us included, and the
    `setting` that it is.
    """

    def __init__(self, host: str, port: int, setting: str = "LEADLINE_PORT") -> None:
        family, _, _, _, address = _resolve(host, port)
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            _bind(probe, address, f"port {port} of {host}", setting)
            port = probe.getsockname()[1]
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        _bind(self._socket, (address[0], port, *address[2:]), f"port {port} of {host}", setting)
        self.port = port

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()


def _resolve(host: str, port: int) -> tuple[int, int, int, str, tuple[str | int, ...]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise ConfigurationError(f"LEADLINE_HOST {host!r}: {error.strerror}") from None
    family, kind, protocol, name, address = found[0]
    return (
        family,
        kind,
        protocol,
        name,
        tuple(str(part) if isinstance(part, bytes) else part for part in address),
    )


def _bind(probe: socket.socket, address: tuple[str | int, ...], named: str, setting: str) -> None:
    try:
        probe.bind(address)
    except OSError as error:
        raise ConfigurationError(
            f"{named} cannot be used ({error.strerror}); stop who has it, or set {setting}"
        ) from None
