"""Which side of a canary a decision is on: chance decides, and users stay where they are."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from uuid import UUID


def unit_of(conversation_id: str | None, subject: str | None) -> str:
    """What stays on one side: the conversation, else the end user; empty where neither is known."""
    return conversation_id or subject or ""


def place_of(version: int, tenant_id: UUID, unit: str) -> float:
    """Where a unit stands in [0, 1): uniform over units, fixed for each canary.

    The canary decides for it while the place is below the share, so that a share that grows
    takes nobody back. A decision that belongs to no unit is its own, by its id.
    """
    salt = version.to_bytes(8, "big") + tenant_id.bytes
    digest = hashlib.blake2b(unit.encode(), digest_size=8, salt=b"canary", key=salt).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)


def chance_of(place: float, share: float, earlier: Sequence[float] = ()) -> float:
    """How probable the canary's side was for a unit, given its side under earlier shares.

    0 or 1 where those had settled it already: such a unit tells of itself, not of the policies.
    """
    low = max((each for each in earlier if each <= place), default=0.0)
    high = min((each for each in earlier if each > place), default=1.0)
    return min(max((share - low) / (high - low), 0.0), 1.0)
