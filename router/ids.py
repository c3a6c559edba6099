"""Identifiers: UUID version 7, and decision ids that prove where they came from.

A decision id is a UUIDv7 of 48 bits of time, 50 bits that name the request and a tag of
24 bits, an HMAC over the tenant and the rest under the instance's decision key. So
whether an id is ours, and this tenant's, is known with no I/O. The name is long so that
two requests of one millisecond never share an id; the tag may be short, since a guess
that passes, one in 16 million, names a decision that does not exist.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

RandomBytes = Callable[[int], bytes]

TAG_BITS = 24
NAME_BITS = 50
TRUSTED_SKEW = timedelta(hours=24)
_TIME_SPAN = 1 << 48
_TIME_END = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp()) * 1000


def uuid7(now: datetime, rng_bytes: RandomBytes = os.urandom) -> UUID:
    """A UUIDv7 of the millisecond of `now` and 74 random bits."""
    return _layout(_milliseconds(now), int.from_bytes(rng_bytes(10), "big") >> 6)


def time_of(value: UUID) -> datetime:
    """The time in a UUIDv7, to the millisecond.

    Raises ValueError for another version, and for a time after 9999-12-30.
    """
    if value.version != 7:
        raise ValueError(f"{value} is not a UUID of version 7")
    if not tells_time(value):
        raise ValueError(f"the time in {value} is beyond the year 9999")
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=value.int >> 80)


def tells_time(value: UUID) -> bool:
    """Whether `time_of` gives the value's time."""
    return value.version == 7 and value.int >> 80 < _TIME_END


def decision_id(
    tenant_id: UUID,
    request_id: UUID | None,
    now: datetime,
    key: bytes,
    rng_bytes: RandomBytes = os.urandom,
    *,
    digest: bytes = b"",
) -> UUID:
    """The id of the decision that answers a request; `digest` is that of the request's body.

    The time is the request id's own when that is a UUIDv7 within 24 hours of `now`, so
    that a retry on any replica gets the same id; otherwise it is `now`. Without a
    request id every call gets another id, and so does the same request id with another
    body, so that no acknowledged decision ever falls on another's row.
    """
    milliseconds = _milliseconds(_time(request_id, now))
    name = _name(tenant_id, request_id, digest, rng_bytes)
    return _layout(milliseconds, name << TAG_BITS | _tag(tenant_id, milliseconds, name, key))


def is_ours(value: UUID, tenant_id: UUID, key: bytes) -> bool:
    """Whether `decision_id` made the value for this tenant under this key."""
    if value.version != 7:
        return False
    milliseconds, free = value.int >> 80, _free(value)
    tag = _tag(tenant_id, milliseconds, free >> TAG_BITS, key)
    return hmac.compare_digest(_bytes(tag), _bytes(free & ((1 << TAG_BITS) - 1)))


def derived_uuid7(at: datetime, *parts: str) -> UUID:
    """A UUIDv7 of the time `at` whose other bits are a hash of the parts: no chance in it."""
    digest = hashlib.sha256("\x1f".join(parts).encode()).digest()
    return _layout(_milliseconds(at), int.from_bytes(digest[:10], "big") >> 6)


def _time(request_id: UUID | None, now: datetime) -> datetime:
    if request_id is None:
        return now
    try:
        claimed = time_of(request_id)
    except ValueError:
        return now
    return claimed if abs(claimed - now) <= TRUSTED_SKEW else now


def _name(tenant_id: UUID, request_id: UUID | None, digest: bytes, rng_bytes: RandomBytes) -> int:
    seed = (
        rng_bytes(7)
        if request_id is None
        else hashlib.sha256(tenant_id.bytes + request_id.bytes + digest).digest()[:7]
    )
    return int.from_bytes(seed, "big") >> (56 - NAME_BITS)


def _tag(tenant_id: UUID, milliseconds: int, name: int, key: bytes) -> int:
    message = tenant_id.bytes + milliseconds.to_bytes(6, "big") + name.to_bytes(7, "big")
    return int.from_bytes(hmac.digest(key, message, "sha256")[: TAG_BITS // 8], "big")


def _bytes(value: int) -> bytes:
    return value.to_bytes(TAG_BITS // 8, "big")


def _milliseconds(at: datetime) -> int:
    milliseconds = (at - datetime.fromtimestamp(0, UTC)) // timedelta(milliseconds=1)
    return min(max(milliseconds, 0), _TIME_SPAN - 1)


def _layout(milliseconds: int, free: int) -> UUID:
    """Places 74 free bits around the version and the variant."""
    high, low = free >> 62, free & ((1 << 62) - 1)
    return UUID(int=milliseconds << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low)


def _free(value: UUID) -> int:
    return ((value.int >> 64) & 0xFFF) << 62 | value.int & ((1 << 62) - 1)
