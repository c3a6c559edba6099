"""Who made a bundle: Ed25519 signatures over its manifest."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from router.bundle.manifest import MANIFEST, MAX_BYTES, SIGNATURE
from router.errors import BundleRefused, ConfigurationError

_CONTEXT = b"leadline bundle manifest v1\n"
_KEY_ID = re.compile(r"[0-9a-f]{16}")


def key_id(public_key: bytes) -> str:
    """The short name of a raw public key: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(public_key).hexdigest()[:16]


class SigningKey:
    """The private key that signs an installation's bundles; never shown in repr."""

    __slots__ = ("_private", "public_key")

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public_key = private.public_key().public_bytes_raw()

    @classmethod
    def load_or_create(cls, path: Path) -> Self:
        """Reads the key's PEM file, or makes it (mode 0600); safe from many processes at once.

        Raises ConfigurationError when others may read the file, or when it is no such key.
        """
        if not path.exists():
            _create(path)
        return cls(_read(path))

    @property
    def key_id(self) -> str:
        """The short name of the public key."""
        return key_id(self.public_key)

    def sign(self, manifest: bytes) -> bytes:
        """The content of manifest.sig for these bytes of a manifest."""
        return _written(self.key_id, self._private.sign(_CONTEXT + manifest))

    def __repr__(self) -> str:
        return f"SigningKey({self.key_id})"


def trusted_keys(public_keys: Iterable[str], *own: SigningKey) -> Mapping[str, bytes]:
    """Raw public keys by key id, from hex ones (LEADLINE_TRUSTED_KEYS) and our own.

    Raises ConfigurationError that names the key which is not 32 bytes of hex.
    """
    raw = [key.public_key for key in own]
    for text in public_keys:
        try:
            raw.append(bytes.fromhex(text))
            Ed25519PublicKey.from_public_bytes(raw[-1])
        except ValueError:
            raise ConfigurationError(
                f"LEADLINE_TRUSTED_KEYS: {text!r:.80} is not an Ed25519 public key (64 hex digits)"
            ) from None
    return MappingProxyType({key_id(key): key for key in raw})


def verify(manifest: bytes, signature: bytes, trusted: Mapping[str, bytes]) -> str:
    """The id of the trusted key that signed the manifest. Raises BundleRefused."""
    signer, raw = _parse(signature)
    if signer not in trusted:
        raise BundleRefused(
            f"the bundle is signed by key {signer}, which is not trusted here; if you trust "
            "its maker, add its public key to LEADLINE_TRUSTED_KEYS"
        )
    try:
        Ed25519PublicKey.from_public_bytes(trusted[signer]).verify(raw, _CONTEXT + manifest)
    except InvalidSignature:
        raise BundleRefused(
            f"{MANIFEST} is not what key {signer} signed; it or {SIGNATURE} was changed since"
        ) from None
    return signer


def _parse(signature: bytes) -> tuple[str, bytes]:
    if len(signature) > MAX_BYTES[SIGNATURE]:
        raise BundleRefused(f"{SIGNATURE} has more than {MAX_BYTES[SIGNATURE]:,} bytes")
    try:
        plain = json.loads(signature)
        signer, raw = str(plain["key_id"]), bytes.fromhex(plain["signature"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise BundleRefused(f"{SIGNATURE} is not a JSON object of key_id and signature") from None
    if not _KEY_ID.fullmatch(signer) or _written(signer, raw) != signature:
        raise BundleRefused(f"{SIGNATURE} is not in the form that Leadline writes")
    return signer, raw


def _written(signer: str, raw: bytes) -> bytes:
    return json.dumps({"key_id": signer, "signature": raw.hex()}).encode()


def _create(path: Path) -> None:
    """Writes a whole key aside, then links it in place: the first process to do so wins."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    pem = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        Path(path).hardlink_to(aside)
    except FileExistsError:
        pass
    finally:
        Path(aside).unlink()


def _read(path: Path) -> Ed25519PrivateKey:
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode & 0o777
        if mode & 0o077:
            raise ConfigurationError(
                f"signing key {path} may be read by others (mode {mode:04o}); "
                f"run 'chmod 600 {path}', or remove it if someone may have copied it"
            )
        pem = file.read(64 << 10)
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(f"{path} is not an unencrypted Ed25519 key in PEM form")
    return key
