"""A manifest reads back as written, and nothing but what we write is read."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.bundle.archive import read_files
from router.bundle.manifest import MANIFEST, MAX_BYTES, Manifest, parse
from router.errors import BundleRefused
from tests.kit.bundles import flip, make, manifest_of


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    directory = tmp_path_factory.mktemp("manifest") / "bundle"
    make(directory)
    return manifest_of(read_files(directory))


def canonical(plain: object) -> bytes:
    return json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()


def test_a_manifest_reads_back_as_it_was_written(manifest: Manifest) -> None:
    data = manifest.to_bytes()
    assert parse(data) == manifest
    assert parse(data).to_bytes() == data
    assert data == canonical(json.loads(data))


def test_whole_numbers_given_for_prices_read_back(manifest: Manifest) -> None:
    models = tuple(replace(model, input_usd_per_mtok=2) for model in manifest.models)
    assert parse(replace(manifest, models=models).to_bytes()).models == models


def test_time_is_kept_in_utc_wherever_it_was_taken(manifest: Manifest) -> None:
    east = datetime(2026, 1, 2, 5, tzinfo=timezone(timedelta(hours=2)))
    assert parse(replace(manifest, created_at=east).to_bytes()).created_at == datetime(
        2026, 1, 2, 3, tzinfo=UTC
    )


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "another format": (lambda m: m.update(format=2), "format 2 is not 1"),
    "format true": (lambda m: m.update(format=True), "format True is not 1"),
    "an unknown key": (lambda m: m.update(code="x"), "code: Unexpected keyword"),
    "a missing key": (lambda m: m.pop("arms"), "arms: "),
    "a default left out": (lambda m: m["models"][0].pop("tier"), "fields that have a default"),
    "an arm with a key": (lambda m: m["arms"][0].update(key="x"), "arms.0.key: Unexpected"),
    "text for a number": (lambda m: m["models"][0].update(tier="1"), "models.0.tier: "),
    "no arms": (lambda m: m.update(arms=[]), "1 to 4,096 arms"),
    "an arm twice": (lambda m: m["arms"].append(m["arms"][0]), "'small:single' stands there twice"),
    "a model twice": (lambda m: m["models"].append(m["models"][0]), "'small' stands there twice"),
    "an arm without its model": (
        lambda m: m["arms"][0].update(model="ghost"),
        "is of a model that models does not describe",
    ),
    "a feature twice": (
        lambda m: m.update(feature_names=["a", "a"]),
        "'a' stands there twice",
    ),
    "a feature with a space": (
        lambda m: m.update(feature_names=["a b"]),
        "characters that LightGBM does not take",
    ),
    "no features": (lambda m: m.update(feature_names=[]), "feature_names has 0 names"),
    "a file more": (
        lambda m: m["files"].update({"x.pkl": {"sha256": "0" * 64, "bytes": 1}}),
        "files must be",
    ),
    "a short digest": (lambda m: m.update(features_digest="ab"), "features_digest is not 64"),
    "a short sha256": (
        lambda m: m["files"]["accuracy.txt"].update(sha256="ab"),
        "the sha256 of accuracy.txt",
    ),
    "a file beyond its bound": (
        lambda m: m["files"]["accuracy.txt"].update(bytes=1 << 40),
        "has 1,099,511,627,776 bytes",
    ),
    "an embedder digest of words": (
        lambda m: m["embedder"].update(digest="none"),
        "embedder.digest",
    ),
    "no dimensions": (lambda m: m["embedder"].update(dimensions=0), "embedder.dimensions is 0"),
    "a local time": (lambda m: m.update(created_at="2026-01-02T03:04:05"), "not in UTC"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_wrong_manifest_is_refused_by_its_field(manifest: Manifest, name: str) -> None:
    change, reason = CHANGES[name]
    plain = json.loads(manifest.to_bytes())
    change(plain)
    with pytest.raises(BundleRefused) as caught:
        parse(canonical(plain))
    assert reason in caught.value.message
    assert caught.value.message.startswith(MANIFEST)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"a":1,"a":1}', "is not canonical"),
        (b'{"a": 1}', "is not canonical"),
        (b'{"a":NaN}', "is not JSON"),
        (b"[]", "format None is not 1"),
        (b'"' + b"a" * MAX_BYTES[MANIFEST] + b'"', "more than 4,194,304 bytes"),
    ],
    ids=["empty", "bytes", "deep", "twice", "spaces", "nan", "list", "long"],
)
def test_what_is_no_manifest_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(BundleRefused, match=reason):
        parse(data)


@settings(max_examples=100)
@given(position=st.integers(0, 1 << 20), mask=st.integers(1, 255))
def test_any_changed_byte_is_refused_or_another_manifest(
    manifest: Manifest, position: int, mask: int
) -> None:
    data = flip(manifest.to_bytes(), position, mask)
    with contextlib.suppress(BundleRefused):
        assert parse(data).to_bytes() == data


def test_a_bundle_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    make(tmp_path / "bundle")
    before = read_files(tmp_path / "bundle")
    with pytest.raises(BundleRefused, match="feature_names are not those of the manifest"):
        make(tmp_path / "bundle", feature_names=("a", "b", "c", "d", "e", "f"))
    assert read_files(tmp_path / "bundle") == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
