"""API keys as text: `ll_<tenant id>_<key id>_<secret>`, all hex."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, field
from typing import Self
from uuid import UUID

from router.errors import InvalidInput

_FORM = re.compile(r"ll_([0-9a-f]{32})_([0-9a-f]{16})_([0-9a-f]{64})", re.ASCII)
_PLAIN_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyText:
    """An API key as its holder has it; the secret does not show in its repr."""

    tenant_id: UUID
    key_id: str
    secret: str = field(repr=False)

    @classmethod
    def new(cls, tenant_id: UUID) -> Self:
        """A key with 256 bits of the system's randomness."""
        return cls(tenant_id=tenant_id, key_id=secrets.token_hex(8), secret=secrets.token_hex(32))

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The key that the text is, or None."""
        found = _FORM.fullmatch(text)
        if found is None:
            return None
        return cls(tenant_id=UUID(hex=found[1]), key_id=found[2], secret=found[3])

    @property
    def text(self) -> str:
        """What the caller sends."""
        return f"ll_{self.tenant_id.hex}_{self.key_id}_{self.secret}"

    @property
    def digest(self) -> bytes:
        """The SHA-256 of the secret: what is stored."""
        return hashlib.sha256(self.secret.encode()).digest()


def plain_name(name: str) -> str:
    """The tenant's name; raises InvalidInput unless it is short, lower-case and plain."""
    if not _PLAIN_NAME.fullmatch(name):
        raise InvalidInput(
            f"{name[:64]!r} is not 1 to 63 of a-z, 0-9, '.', '_', '-', a letter or digit first",
            field="name",
        )
    return name
