"""Small real bundles, and the ways to spoil one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from router.bundle.archive import Files, read_files
from router.bundle.manifest import (
    ACCURACY,
    MANIFEST,
    SIGNATURE,
    EmbedderInfo,
    FileInfo,
    Manifest,
    parse,
)
from router.bundle.signing import SigningKey, trusted_keys
from router.bundle.writer import write
from router.types import Arm, Capability, Floats, Model

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NAMES = ("text_log_chars", "text_log_tokens", "embedding_0", "embedding_1", "arm_tier", "arm_kind")
KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
STRANGER = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33))))
TRUSTED = trusted_keys((), KEY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A booster's text with rows and the raw scores that it gives them."""

    text: str
    rows: Floats
    raw: Floats


@cache
def trained(trees: int = 12, seed: int = 1) -> Trained:
    """Trains a small booster with cross entropy, missing values and a categorical column."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(600, len(NAMES)))
    rows[rng.random(rows.shape) < 0.05] = np.nan
    rows[:, -1] = rng.integers(0, 60, 600)
    logit = np.nan_to_num(rows[:, 0]) + ((rows[:, -1] * 7) % 3) - 1
    data = lightgbm.Dataset(
        rows, 1 / (1 + np.exp(-logit)), feature_name=list(NAMES), categorical_feature=[5]
    )
    params = {
        "objective": "cross_entropy",
        "num_leaves": 7,
        "min_data_in_leaf": 5,
        "min_data_per_group": 5,
        "num_threads": 1,
        "verbose": -1,
        "seed": seed,
        "deterministic": True,
    }
    booster = lightgbm.train(params, data, trees)
    raw = np.asarray(booster.predict(rows[:64], raw_score=True, num_threads=1))
    return Trained(text=booster.model_to_string(), rows=rows[:64], raw=raw)


def parts() -> dict[str, Any]:
    """The arguments of `writer.write`, but for the directory."""
    model = trained()
    cheap = Model(name="small", input_usd_per_mtok=0.1, output_usd_per_mtok=0.4)
    strong = replace(cheap, name="large", tier=1, capabilities=frozenset(Capability))
    return {
        "embedder": EmbedderInfo(name="test", digest="a" * 64, dimensions=256),
        "feature_names": NAMES,
        "features_digest": "b" * 64,
        "arms": (
            Arm(model="small", strategy="single"),
            Arm(model="large", strategy="self_consistency", params={"samples": 3}),
        ),
        "models": (cheap, strong),
        "training": {"rows": 600, "gap_closed": 0.1, "slices": {"all": [1, 2]}},
        "booster_text": model.text,
        "arrays": arrays(),
        "golden_rows": model.rows,
        "golden_raw": model.raw,
        "key": KEY,
        "now": NOW,
    }


def manifest_of(files: Files) -> Manifest:
    """The manifest among the files of a bundle."""
    return parse(files[MANIFEST])


def arrays() -> Mapping[str, NDArray[Any]]:
    """Arrays of some shapes and types, one of them not contiguous."""
    return {
        "cost_weights": np.arange(12.0).reshape(3, 4).T,
        "neighbours": np.ones((5, 3), np.float32),
        "order": np.arange(4),
    }


def make(directory: Path, **changes: Any) -> Manifest:
    """Writes a sound bundle, with changes to the arguments of `writer.write`."""
    return write(directory, **parts() | changes)


def sealed(files: Files, *, key: SigningKey = KEY, **changes: Any) -> dict[str, bytes]:
    """The files with hashes, manifest and signature made to fit, as the key's holder can."""
    manifest = parse(files[MANIFEST])
    infos = {
        name: FileInfo(sha256=hashlib.sha256(files[name]).hexdigest(), bytes=len(files[name]))
        for name in manifest.files
    }
    data = replace(manifest, files=infos, **changes).to_bytes()
    return {**files, MANIFEST: data, SIGNATURE: key.sign(data)}


def overwrite(directory: Path, files: Files) -> None:
    """Replaces the content of a bundle's files in place."""
    for name, data in files.items():
        (directory / name).write_bytes(data)


def flip(data: bytes, position: int, mask: int = 1) -> bytes:
    """The bytes with some bits of one of them flipped."""
    index = position % len(data)
    return data[:index] + bytes([data[index] ^ mask]) + data[index + 1 :]


def reseal(directory: Path, spoil: Callable[[str], str]) -> None:
    """Changes the booster's text, mends tree_sizes and every hash, and signs anew."""
    files = read_files(directory)
    text = resized(spoil(files[ACCURACY].decode()))
    overwrite(directory, sealed({**files, ACCURACY: text.encode()}))


def resized(text: str) -> str:
    """The model's text with tree_sizes made to fit its trees."""
    start, end = text.index("Tree=0\n"), text.index("end of trees")
    trees = re.split(r"(?=^Tree=)", text[start:end], flags=re.MULTILINE)[1:]
    sizes = " ".join(str(len(tree.encode())) for tree in trees)
    return re.sub(r"(?m)^tree_sizes=.*$", f"tree_sizes={sizes}", text, count=1)


def edit(text: str, name: str, change: Callable[[list[str]], list[str]], *, tree: int = 0) -> str:
    """The model's text with the list of that name changed in one tree."""
    head, mark, rest = text.partition(f"Tree={tree}\n")
    line = re.search(rf"(?m)^{name}=(.*)$", rest)
    assert line is not None, f"tree {tree} has no {name}"
    value = " ".join(change(line.group(1).split()))
    return head + mark + rest[: line.start(1)] + value + rest[line.end(1) :]


def put(index: int, value: str) -> Callable[[list[str]], list[str]]:
    """A change that puts a value at an index."""
    return lambda values: [*values[:index], value, *values[index + 1 :]]
