"""Loads a bundle: each step trusts only what the one before has verified."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors

from router.bundle import booster_check, trial
from router.bundle.archive import Files, pack_files, read_files, unpack_files
from router.bundle.booster import FlatBooster
from router.bundle.manifest import ACCURACY, ARRAYS, GOLDEN, MANIFEST, SIGNATURE, Manifest, parse
from router.bundle.signing import verify
from router.bundle.trial import Golden
from router.errors import BundleRefused

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedBundle:
    """A verified bundle, ready to predict.

    `arrays` are read-only; `digest` is the hex SHA-256 of the archive, whichever form
    was loaded, and `signer` the id of the key that signed it.
    """

    manifest: Manifest
    booster: FlatBooster
    arrays: Arrays
    digest: str
    signer: str


def load(directory: Path, *, trusted: Mapping[str, bytes], probe: bool = True) -> LoadedBundle:
    """Verifies and loads a bundle's directory. Raises BundleRefused with the reason.

    `trusted` holds raw public keys by key id. It blocks for about half a second: call it
    off the event loop. `probe=False` leaves out the trial in a child process, and is for
    a bundle that this process has just written itself.
    """
    files = read_files(directory)
    return _load(files, hashlib.sha256(pack_files(files)).hexdigest(), trusted, probe=probe)


def load_archive(
    archive: bytes, *, trusted: Mapping[str, bytes], probe: bool = True
) -> LoadedBundle:
    """As `load`, from the archive that the registry holds."""
    files = unpack_files(archive)
    return _load(files, hashlib.sha256(archive).hexdigest(), trusted, probe=probe)


def verified_manifest(archive: bytes, *, trusted: Mapping[str, bytes]) -> Manifest:
    """The manifest of an archive whose signature and files are right; loads no model."""
    return _verify(unpack_files(archive), trusted)[0]


def _load(files: Files, digest: str, trusted: Mapping[str, bytes], *, probe: bool) -> LoadedBundle:
    manifest, signer = _verify(files, trusted)
    booster_check.check(files[ACCURACY], manifest.feature_names)
    golden = Golden.parse(files[GOLDEN], len(manifest.feature_names))
    arrays = _arrays(files[ARRAYS])
    if probe:
        trial.attempt(files[ACCURACY], golden)
    return LoadedBundle(
        manifest=manifest,
        booster=_booster(files[ACCURACY], golden),
        arrays=arrays,
        digest=digest,
        signer=signer,
    )


def _verify(files: Files, trusted: Mapping[str, bytes]) -> tuple[Manifest, str]:
    """The signature stands before every parse: nothing that a stranger wrote is read."""
    signer = verify(files[MANIFEST], files[SIGNATURE], trusted)
    manifest = parse(files[MANIFEST])
    for name, info in manifest.files.items():
        if len(files[name]) != info.bytes:
            raise BundleRefused(f"{name} has {len(files[name]):,} bytes, not {info.bytes:,}")
        if hashlib.sha256(files[name]).hexdigest() != info.sha256:
            raise BundleRefused(f"{name} is not the file that was signed: its sha256 differs")
    return manifest, signer


def _arrays(data: bytes) -> Arrays:
    try:
        arrays = load_safetensors(data)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise BundleRefused(f"{ARRAYS} is not safetensors ({error})") from None
    for array in arrays.values():
        array.setflags(write=False)
    return MappingProxyType(arrays)


def _booster(text: bytes, golden: Golden) -> FlatBooster:
    from lightgbm import Booster  # noqa: PLC0415 (a second and 60 MB, once a policy is there)
    from lightgbm.basic import LightGBMError  # noqa: PLC0415

    try:
        booster = FlatBooster(Booster(model_str=text.decode()))
        golden.compare(booster.predict(golden.rows))
    except LightGBMError as error:
        raise BundleRefused(f"LightGBM refuses {ACCURACY} ({error!s:.200})") from None
    return booster
