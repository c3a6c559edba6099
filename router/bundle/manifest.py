"""The manifest: what a bundle says of itself, and the one text that is signed."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from router.errors import BundleRefused
from router.types import Arm, Model

FORMAT = 1
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
ACCURACY, ARRAYS, GOLDEN = "accuracy.txt", "arrays.safetensors", "golden.safetensors"
PAYLOAD = (ACCURACY, ARRAYS, GOLDEN)
"""Files whose sha256 stands in the manifest."""

MAX_BYTES: Mapping[str, int] = {
    MANIFEST: 4 << 20,
    SIGNATURE: 4 << 10,
    ACCURACY: 64 << 20,
    ARRAYS: 256 << 20,
    GOLDEN: 16 << 20,
}
"""The files of a bundle, no more and no fewer, and the most bytes that each may have."""

_HEX_SHA256 = re.compile(r"[0-9a-f]{64}")
_FEATURE_NAME = re.compile(r"""[^\s"',:\[\]{}\x00-\x1f\x7f]{1,200}""")


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedderInfo:
    """Which embedder the features were made with; `digest` is that of its files."""

    name: str
    digest: str
    dimensions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfo:
    """What a file of the bundle must hash to (hex), and its size."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a bundle says of itself.

    `feature_names` are the booster's columns in order; `features_digest` is that of the
    FeatureSpec. `arms` give the order of every per-arm array, and each arm's model is
    described in `models`. `training` holds summary figures for people, free in form.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False
    )

    created_at: datetime
    embedder: EmbedderInfo
    feature_names: tuple[str, ...]
    features_digest: str
    arms: tuple[Arm, ...]
    models: tuple[Model, ...]
    files: Mapping[str, FileInfo]
    lightgbm_version: str
    training: Mapping[str, Any]
    format: int = FORMAT

    def to_bytes(self) -> bytes:
        """The canonical JSON: equal manifests give equal bytes."""
        return _canonical(self.to_plain())

    def to_plain(self) -> dict[str, Any]:
        """The manifest as plain JSON values."""
        return {
            "format": self.format,
            "created_at": self.created_at.astimezone(UTC).isoformat(),
            "embedder": _fields(self.embedder),
            "feature_names": list(self.feature_names),
            "features_digest": self.features_digest,
            "arms": [_arm(arm) for arm in self.arms],
            "models": [_model(model) for model in self.models],
            "files": {name: _fields(info) for name, info in self.files.items()},
            "lightgbm_version": self.lightgbm_version,
            "training": dict(self.training),
        }


def parse(data: bytes) -> Manifest:
    """Reads a manifest strictly. Raises BundleRefused that names the field and what is wrong."""
    if len(data) > MAX_BYTES[MANIFEST]:
        raise BundleRefused(f"{MANIFEST} has more than {MAX_BYTES[MANIFEST]:,} bytes")
    try:
        plain = json.loads(data)
        if _canonical(plain) != data:
            raise BundleRefused(f"{MANIFEST} is not canonical JSON; write it with leadline train")
        _check_format(plain)
        manifest: Manifest = _adapter().validate_json(data)
    except ValidationError as error:
        raise BundleRefused(f"{MANIFEST}: {_first(error)}") from None
    except (ValueError, RecursionError) as error:
        raise BundleRefused(f"{MANIFEST} is not JSON ({error})") from None
    check(manifest)
    if manifest.to_plain() != plain:
        raise BundleRefused(f"{MANIFEST} leaves out fields that have a default; write them all")
    return manifest


def check(manifest: Manifest) -> None:
    """Raises BundleRefused when the parts of a manifest contradict each other."""
    for problem in (
        _names_problem(manifest.feature_names),
        _arms_problem(manifest),
        _files_problem(manifest.files),
        _digests_problem(manifest),
    ):
        if problem:
            raise BundleRefused(f"{MANIFEST}: {problem}")


def _check_format(plain: object) -> None:
    found = plain.get("format") if isinstance(plain, dict) else None
    if found != FORMAT or not isinstance(found, int) or isinstance(found, bool):
        raise BundleRefused(
            f"{MANIFEST}: format {found!r:.40} is not {FORMAT}, the one that this version reads; "
            "upgrade Leadline, or train the policy anew"
        )


def _names_problem(names: tuple[str, ...]) -> str:
    if not 1 <= len(names) <= 65_536:
        return f"feature_names has {len(names)} names, not 1 to 65,536"
    for name in names:
        if not _FEATURE_NAME.fullmatch(name):
            return f"feature_names: {name!r:.80} has characters that LightGBM does not take"
    twice = _repeated(names)
    return f"feature_names: {twice!r:.80} stands there twice" if twice else ""


def _arms_problem(manifest: Manifest) -> str:
    described = [model.name for model in manifest.models]
    if twice := _repeated(described):
        return f"models: {twice!r:.80} stands there twice"
    if twice := _repeated([arm.key for arm in manifest.arms]):
        return f"arms: {twice!r:.80} stands there twice"
    for arm in manifest.arms:
        if arm.model not in set(described):
            return f"arms: {arm.key!r:.80} is of a model that models does not describe"
    return "" if 1 <= len(manifest.arms) <= 4_096 else "arms must hold 1 to 4,096 arms"


def _files_problem(files: Mapping[str, FileInfo]) -> str:
    if set(files) != set(PAYLOAD):
        return f"files must be {sorted(PAYLOAD)}, not {sorted(files)!r:.200}"
    for name, info in files.items():
        if not 0 < info.bytes <= MAX_BYTES[name]:
            return f"files: {name} has {info.bytes:,} bytes, not 1 to {MAX_BYTES[name]:,}"
        if not _HEX_SHA256.fullmatch(info.sha256):
            return f"files: the sha256 of {name} is not 64 hex digits"
    return ""


def _digests_problem(manifest: Manifest) -> str:
    if not _HEX_SHA256.fullmatch(manifest.features_digest):
        return "features_digest is not 64 hex digits"
    if not _HEX_SHA256.fullmatch(manifest.embedder.digest):
        return "embedder.digest is not 64 hex digits"
    if not 1 <= manifest.embedder.dimensions <= 65_536:
        return f"embedder.dimensions is {manifest.embedder.dimensions}, not 1 to 65,536"
    return "" if manifest.created_at.utcoffset() == timedelta(0) else "created_at is not in UTC"


def _repeated(names: Collection[str]) -> str:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return ""


def _arm(arm: Arm) -> dict[str, Any]:
    return {"model": arm.model, "strategy": str(arm.strategy), "params": dict(arm.params)}


def _model(model: Model) -> dict[str, Any]:
    return {**_fields(model), "capabilities": sorted(map(str, model.capabilities))}


def _fields(value: Any) -> dict[str, Any]:
    return {item.name: getattr(value, item.name) for item in fields(value)}


def _canonical(plain: object) -> bytes:
    text = json.dumps(
        plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return text.encode()


@cache
def _adapter() -> TypeAdapter[Manifest]:
    return TypeAdapter(Manifest)


def _first(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, found['loc']))}: {found['msg']}"[:300]
