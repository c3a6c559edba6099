"""A key is made once, kept from others, and names itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from router.bundle.signing import SigningKey, key_id, trusted_keys, verify
from router.errors import BundleRefused, ConfigurationError
from tests.kit.bundles import KEY, STRANGER


def test_a_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "signing.pem"
    first = SigningKey.load_or_create(path)
    assert SigningKey.load_or_create(path).public_key == first.public_key
    assert path.stat().st_mode & 0o777 == 0o600
    assert [found.name for found in path.parent.iterdir()] == ["signing.pem"]
    assert first.key_id == key_id(first.public_key)


def test_processes_that_start_at_once_agree_on_one_key(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from router.bundle.signing import SigningKey; "
        "print(SigningKey.load_or_create(Path(sys.argv[1])).key_id)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "signing.pem")]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert len({process.communicate()[0] for process in started}) == 1
    assert all(process.returncode == 0 for process in started)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "signing.pem"
    SigningKey.load_or_create(path)
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match=r"may be read by others.*chmod 600"):
        SigningKey.load_or_create(path)


def test_a_file_that_is_no_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "signing.pem"
    path.write_text("no key")
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match="not an unencrypted Ed25519 key"):
        SigningKey.load_or_create(path)


def test_a_signature_holds_for_its_manifest_alone() -> None:
    trusted = trusted_keys([STRANGER.public_key.hex()], KEY)
    for key in (KEY, STRANGER):
        assert verify(b"manifest", key.sign(b"manifest"), trusted) == key.key_id
        with pytest.raises(BundleRefused, match=key.key_id):
            verify(b"manifesto", key.sign(b"manifest"), trusted)


@pytest.mark.parametrize("signature", [b"", b"[]", b"{}", b'{"key_id":1}', b"x" * 5_000])
def test_what_is_no_signature_is_refused(signature: bytes) -> None:
    with pytest.raises(BundleRefused, match=r"manifest\.sig"):
        verify(b"manifest", signature, trusted_keys((), KEY))


@pytest.mark.parametrize("text", ["", "zz", "ab" * 31])
def test_a_trusted_key_that_is_none_is_named(text: str) -> None:
    with pytest.raises(ConfigurationError, match="LEADLINE_TRUSTED_KEYS"):
        trusted_keys([text])


def test_a_key_never_shows_its_private_half() -> None:
    assert repr(KEY) == f"SigningKey({KEY.key_id})"
