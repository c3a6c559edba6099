"""Whose policies this installation trusts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from router.bundle.signing import SigningKey, trusted_keys
from router.settings import Settings

SIGNING_KEY = Path("keys/signing.key")
"""Where an installation's own key is, in its state directory, once a policy was trained here."""


def trusted_here(settings: Settings, given: Iterable[str] = ()) -> Mapping[str, bytes]:
    """Public keys by key id: the installation's own, the settings', and those given, in hex."""
    own = settings.state_dir / SIGNING_KEY
    keys = [SigningKey.load_or_create(own)] if own.exists() else []
    return trusted_keys((*settings.trusted_keys, *given), *keys)
