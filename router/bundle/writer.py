"""Writes a bundle: whole or not at all, and the same inputs give the same bytes."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from router.bundle import booster_check
from router.bundle.archive import Files, write_files
from router.bundle.manifest import (
    ACCURACY,
    ARRAYS,
    GOLDEN,
    MANIFEST,
    SIGNATURE,
    EmbedderInfo,
    FileInfo,
    Manifest,
    parse,
)
from router.bundle.signing import SigningKey
from router.bundle.trial import Golden
from router.errors import InvalidInput
from router.types import Arm, Floats, Model


def write(
    directory: Path,
    *,
    embedder: EmbedderInfo,
    feature_names: Sequence[str],
    features_digest: str,
    arms: Sequence[Arm],
    models: Sequence[Model],
    training: Mapping[str, Any],
    booster_text: str,
    arrays: Mapping[str, NDArray[Any]],
    golden_rows: Floats,
    golden_raw: Floats,
    key: SigningKey,
    now: datetime,
) -> Manifest:
    """Writes and signs a bundle; one that stood in the directory is replaced.

    Raises BundleRefused for what `load` would refuse without its probe, and InvalidInput
    when the directory holds something else.
    """
    payload = {
        ACCURACY: booster_text.encode(),
        ARRAYS: save({name: _plain(name, array) for name, array in arrays.items()}),
        GOLDEN: Golden(rows=golden_rows, raw=golden_raw).to_bytes(),
    }
    manifest = Manifest(
        created_at=now.astimezone(UTC),
        embedder=embedder,
        feature_names=tuple(feature_names),
        features_digest=features_digest,
        arms=tuple(arms),
        models=tuple(models),
        files={name: _info(data) for name, data in payload.items()},
        lightgbm_version=version("lightgbm"),
        training=training,
    )
    _replace(directory, _sealed(manifest, payload, key))
    return manifest


def _sealed(manifest: Manifest, payload: Files, key: SigningKey) -> Files:
    """All files of the bundle, once they have passed what `load` will check."""
    data = manifest.to_bytes()
    parse(data)
    booster_check.check(payload[ACCURACY], manifest.feature_names)
    Golden.parse(payload[GOLDEN], len(manifest.feature_names))
    return {MANIFEST: data, SIGNATURE: key.sign(data), **payload}


def _plain(name: str, array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise InvalidInput(f"dtype {array.dtype} is not a plain number", field=f"arrays.{name}")
    return np.array(array, order="C", dtype=array.dtype.newbyteorder("="))


def _info(data: bytes) -> FileInfo:
    return FileInfo(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))


def _replace(directory: Path, files: Files) -> None:
    """Writes the files aside, then renames; what stood there goes only once they are whole."""
    empty = not directory.exists() or (directory.is_dir() and not any(directory.iterdir()))
    if not empty and not (directory / MANIFEST).is_file():
        raise InvalidInput(f"{directory} holds something else; name a new directory", field="out")
    directory.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}."))
    try:
        fresh, old = aside / "new", aside / "old"
        fresh.mkdir()
        write_files(fresh, files)
        if directory.exists():
            directory.rename(old)
        try:
            fresh.rename(directory)
        except OSError:
            old.rename(directory)
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
