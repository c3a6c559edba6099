"""Addresses of webhooks: which may be told, and which of a host's addresses are public."""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from urllib.parse import SplitResult, urlsplit

from router.errors import InvalidInput

MOST_CHARACTERS = 2_048
_NAT64 = IPv6Network("64:ff9b::/96")


def checked_url(url: str, *, private: bool = False) -> str:
    """The URL, if a tenant may be told there. Raises InvalidInput, which repeats no path.

    It is https://, or http:// on loopback; private addresses need permission, which a name's
    need once it is resolved.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _wrong("is no address") from None
    host = parts.hostname or ""
    if not url.isascii() or not url.isprintable() or " " in url or len(url) > MOST_CHARACTERS:
        raise _wrong(f"is not plain ASCII of at most {MOST_CHARACTERS:,} characters")
    if not host or port == 0 or parts.username is not None or parts.password is not None:
        raise _wrong("needs a host, and neither user nor password")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
        raise _wrong("is not https://, without which anybody on the way may read it")
    if not private and (_is_loopback(host) or not _may_be_public(host)):
        raise _wrong(
            f"is on {host}, which is private; set LEADLINE_WEBHOOK_PRIVATE=true to permit that"
        )
    return url


def origin(url: str) -> str:
    """The URL's scheme, host and port: a path often holds a secret of its own."""
    parts: SplitResult = urlsplit(url)
    host = parts.hostname or ""
    named = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{named}" + (f":{parts.port}" if parts.port else "")


def is_public(address: str) -> bool:
    """Whether an IP address is anybody's to reach; what it maps to or tunnels to counts too."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address):
        inner = _inside(found)
        if inner is not None:
            return is_public(str(inner))
    return found.is_global and not found.is_multicast


def _inside(address: IPv6Address) -> IPv4Address | None:
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _may_be_public(host: str) -> bool:
    """False for a private address; a name is looked up when it is told."""
    try:
        return is_public(host)
    except ValueError:
        return True


def _wrong(why: str) -> InvalidInput:
    return InvalidInput(why, field="url")
