"""Every way to spoil a bundle, each refused with its reason, while this process lives on."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import tempfile
import threading
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save

from router.bundle import loader, trial
from router.bundle.archive import pack, read_files, unpack
from router.bundle.embedder import check_embedder, describe_embedder, load_embedder
from router.bundle.manifest import ACCURACY, ARRAYS, GOLDEN, MANIFEST, MAX_BYTES, SIGNATURE
from router.bundle.trial import Golden
from router.errors import BundleRefused, Unavailable
from tests.kit import bundles
from tests.kit.bundles import TRUSTED, edit, flip, make, overwrite, put, sealed, trained


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bundles") / "sound"
    make(directory)
    return directory


@pytest.fixture
def bundle(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "bundle"))


def refusal(directory: Path, *, probe: bool = False) -> str:
    with pytest.raises(BundleRefused) as caught:
        loader.load(directory, trusted=TRUSTED, probe=probe)
    return caught.value.message


def test_a_sound_bundle_is_served_as_it_was_written(sound: Path) -> None:
    loaded = loader.load(sound, trusted=TRUSTED)
    model = trained()
    assert np.array_equal(loaded.booster.predict(model.rows, raw_score=True), model.raw)
    for name, array in bundles.arrays().items():
        assert np.array_equal(loaded.arrays[name], array)
        assert not loaded.arrays[name].flags.writeable
    assert loaded.signer == bundles.KEY.key_id


def test_an_archive_and_its_directory_are_the_same_bundle(sound: Path, tmp_path: Path) -> None:
    archive = pack(sound)
    unpack(archive, tmp_path / "again")
    assert pack(tmp_path / "again") == archive
    from_archive = loader.load_archive(archive, trusted=TRUSTED, probe=False)
    from_directory = loader.load(tmp_path / "again", trusted=TRUSTED, probe=False)
    assert from_archive.digest == from_directory.digest
    assert loader.verified_manifest(archive, trusted=TRUSTED) == from_archive.manifest


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (ACCURACY, "accuracy.txt is not the file that was signed"),
        (ARRAYS, "arrays.safetensors is not the file that was signed"),
        (GOLDEN, "golden.safetensors is not the file that was signed"),
        (MANIFEST, "is not what key 56475aa75463474c signed"),
        (SIGNATURE, "manifest.sig"),
    ],
)
def test_a_flipped_byte_is_refused_in_every_file(bundle: Path, name: str, reason: str) -> None:
    path = bundle / name
    path.write_bytes(flip(path.read_bytes(), -20))
    assert reason in refusal(bundle)


@pytest.mark.parametrize("name", sorted(MAX_BYTES))
def test_a_missing_file_is_refused_by_name(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    assert refusal(bundle) == f"{name} is missing"


def test_an_extra_file_is_refused(bundle: Path) -> None:
    (bundle / "model.pkl").write_bytes(b"")
    assert "'model.pkl' is not a file of a bundle" in refusal(bundle)


def test_swapped_files_are_refused(bundle: Path) -> None:
    files = read_files(bundle)
    overwrite(bundle, {ARRAYS: files[GOLDEN], GOLDEN: files[ARRAYS]})
    assert "golden.safetensors has" in refusal(bundle) or "arrays.safetensors has" in refusal(
        bundle
    )


def test_a_file_cut_off_is_refused(bundle: Path) -> None:
    path = bundle / ACCURACY
    path.write_bytes(path.read_bytes()[:-100])
    assert "accuracy.txt has" in refusal(bundle)


def test_a_link_in_place_of_a_file_is_refused(bundle: Path, tmp_path: Path) -> None:
    (bundle / ARRAYS).rename(tmp_path / "elsewhere")
    (bundle / ARRAYS).symlink_to(tmp_path / "elsewhere")
    assert refusal(bundle) == "arrays.safetensors is not a plain file"


def test_a_pipe_in_place_of_a_file_is_refused(bundle: Path) -> None:
    (bundle / ARRAYS).unlink()
    os.mkfifo(bundle / ARRAYS)
    assert refusal(bundle) == "arrays.safetensors is not a plain file"


def test_a_file_beyond_its_bound_is_refused_unread(bundle: Path) -> None:
    with (bundle / ACCURACY).open("r+b") as file:
        file.truncate(MAX_BYTES[ACCURACY] + 1)
    assert "more than 67,108,864" in refusal(bundle)


def test_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "cannot be read (No such file" in refusal(tmp_path / "nowhere")


def test_an_untrusted_signer_is_refused_by_its_key_id(tmp_path: Path) -> None:
    make(tmp_path / "b", key=bundles.STRANGER)
    message = refusal(tmp_path / "b")
    assert bundles.STRANGER.key_id in message
    assert "add its public key to LEADLINE_TRUSTED_KEYS" in message


def test_another_bundles_signature_is_refused(bundle: Path, tmp_path: Path) -> None:
    make(tmp_path / "other", training={})
    shutil.copy(tmp_path / "other" / SIGNATURE, bundle / SIGNATURE)
    assert "is not what key" in refusal(bundle)


def test_a_stranger_who_claims_a_trusted_key_is_refused(bundle: Path) -> None:
    data = (bundle / MANIFEST).read_bytes()
    claim = json.loads(bundles.STRANGER.sign(data)) | {"key_id": bundles.KEY.key_id}
    (bundle / SIGNATURE).write_text(json.dumps(claim))
    assert "is not what key" in refusal(bundle)


def test_a_changed_manifest_is_refused(bundle: Path) -> None:
    path = bundle / MANIFEST
    path.write_bytes(path.read_bytes().replace(b'"tier":1', b'"tier":2'))
    assert "was changed since" in refusal(bundle)


def last_internal(values: list[str]) -> int:
    return max(range(len(values)), key=lambda index: int(values[index]))


def cycle(values: list[str]) -> list[str]:
    return put(last_internal(values), "0")(values)


def twice(values: list[str]) -> list[str]:
    leaves = [index for index, value in enumerate(values) if int(value) < 0]
    return put(leaves[0], "-1" if values[leaves[0]] != "-1" else "-2")(values)


def cut_behind_first_tree(text: str) -> str:
    return text[: text.index("Tree=1\n")] + text[text.index("end of trees") :]


SPOILED_BOOSTERS: dict[str, tuple[Callable[[str], str], str]] = {
    "truncated": (lambda t: t[: t.index("Tree=3") + 200] + "end of trees", "end as it should"),
    "a cycle": (lambda t: edit(t, "left_child", cycle), "do not form a tree"),
    "a node with two parents": (lambda t: edit(t, "left_child", twice), "do not form a tree"),
    "a child out of range": (lambda t: edit(t, "right_child", put(0, "999")), "do not form a tree"),
    "a short list": (lambda t: edit(t, "left_child", lambda v: v[:-1]), "has 5 values, not 6"),
    "more leaves than values": (
        lambda t: edit(t, "num_leaves", put(0, "2000000")),
        "num_leaves or num_cat is out of range",
    ),
    "a leaf too many": (lambda t: edit(t, "num_leaves", put(0, "8")), "values, not 7"),
    "a column that is not there": (
        lambda t: edit(t, "split_feature", put(0, "77")),
        "a column that does not exist",
    ),
    "a negative column": (
        lambda t: edit(t, "split_feature", put(0, "-1")),
        "a column that does not exist",
    ),
    "NaN threshold": (lambda t: edit(t, "threshold", put(0, "nan")), "not a list of numbers"),
    "NaN leaf": (lambda t: edit(t, "leaf_value", put(0, "nan")), "not a list of numbers"),
    "infinite leaf": (lambda t: edit(t, "leaf_value", put(0, "inf")), "is not finite"),
    "overflowing leaf": (lambda t: edit(t, "leaf_value", put(0, "1e999")), "is not finite"),
    "words for numbers": (lambda t: edit(t, "leaf_value", put(0, "0x1")), "not a list of numbers"),
    "unknown decision": (lambda t: edit(t, "decision_type", put(0, "12")), "decision_type"),
    "categories out of step": (
        lambda t: edit(t, "num_cat", put(0, "3")),
        "tree 0",
    ),
    "category bounds beyond the list": (
        lambda t: edit(t, "cat_boundaries", put(1, "4000")),
        "cat_threshold has",
    ),
    "linear leaves": (lambda t: edit(t, "is_linear", put(0, "1")), "linear leaves"),
    "permuted names": (
        lambda t: t.replace("=text_log_chars text_log_tokens ", "=text_log_tokens text_log_chars "),
        "are not those of the manifest",
    ),
    "fewer columns": (
        lambda t: t.replace("max_feature_idx=5", "max_feature_idx=4"),
        "max_feature_idx does not fit",
    ),
    "another version": (lambda t: t.replace("version=v4", "version=v3"), "version is 'v3'"),
    "many classes": (lambda t: t.replace("num_class=1", "num_class=9", 1), "num_class is '9'"),
    "trees out of order": (lambda t: t.replace("Tree=1\n", "Tree=7\n"), "tree_sizes says"),
    "an unknown line": (lambda t: t.replace("shrinkage=1\n", "shrinkage=1\nx=1\n"), "unknown"),
    "a line twice": (
        lambda t: t.replace("shrinkage=1\n", "shrinkage=1\nshrinkage=1\n"),
        "stands there twice",
    ),
    "no text at all": (lambda _: "Tree=0\nend of trees", "has no header"),
}


@pytest.mark.parametrize("name", SPOILED_BOOSTERS)
def test_a_spoiled_booster_is_refused_before_lightgbm_sees_it_though_it_is_signed(
    bundle: Path, name: str
) -> None:
    spoil, reason = SPOILED_BOOSTERS[name]
    bundles.reseal(bundle, spoil)
    assert reason in refusal(bundle)


def test_tree_sizes_that_lie_are_refused(bundle: Path) -> None:
    files = read_files(bundle)
    text = files[ACCURACY].replace(b"tree_sizes=", b"tree_sizes=1 ", 1)
    overwrite(bundle, sealed({**files, ACCURACY: text}))
    assert "accuracy.txt" in refusal(bundle)


def test_permuted_feature_names_in_the_manifest_are_refused(bundle: Path) -> None:
    names = (*bundles.NAMES[1::-1], *bundles.NAMES[2:])
    overwrite(bundle, sealed(read_files(bundle), feature_names=names))
    assert "are not those of the manifest, in its order" in refusal(bundle)


@pytest.mark.parametrize("probe", [True, False])
def test_altered_leaves_are_caught_by_the_golden_rows_though_signed(
    bundle: Path, *, probe: bool
) -> None:
    bundles.reseal(bundle, lambda t: edit(t, "leaf_value", put(2, "0.25")))
    message = refusal(bundle, probe=probe)
    assert "does not predict what it did in training" in message
    assert "golden rows differ" in message


def test_a_model_with_a_tree_less_is_caught_by_the_golden_rows(bundle: Path) -> None:
    bundles.reseal(bundle, cut_behind_first_tree)
    assert "does not predict what it did in training" in refusal(bundle)


def test_golden_rows_of_another_width_are_refused(bundle: Path) -> None:
    files = read_files(bundle)
    golden = load_safetensors(files[GOLDEN])
    narrow = save({"rows": golden["rows"][:, :3].copy(), "raw": golden["raw"]})
    overwrite(bundle, sealed({**files, GOLDEN: narrow}))
    assert "rows must be (n, 6)" in refusal(bundle)


def test_arrays_that_are_not_safetensors_are_refused(bundle: Path) -> None:
    files = read_files(bundle)
    overwrite(bundle, sealed({**files, ARRAYS: b"\x80\x04N."}))
    assert "arrays.safetensors is not safetensors" in refusal(bundle)


def golden_of(model: bundles.Trained) -> Golden:
    return Golden(rows=model.rows, raw=model.raw)


@pytest.mark.parametrize(
    ("name", "value"),
    [("right_child", "99999999"), ("right_child", "-99999999"), ("num_leaves", "2000000000")],
)
def test_a_booster_that_crashes_ends_its_child_alone(name: str, value: str) -> None:
    model = trained()
    text = edit(model.text, name, put(0, value))
    with pytest.raises(BundleRefused, match=r"crashes the process that tried it \(SIG"):
        trial.attempt(text.encode(), golden_of(model))


def test_a_booster_that_hangs_is_given_up_in_time() -> None:
    model = trained()
    text = edit(model.text, "left_child", put(0, "0"))
    text = edit(text, "right_child", put(0, "0"))
    with pytest.raises(trial.Hangs, match="hangs: no answer within 2 s"):
        trial.attempt(text.encode(), golden_of(model), timeout_s=2)


def test_a_trial_that_the_machine_failed_may_be_tried_again(tmp_path: Path) -> None:
    model, before = trained(), tempfile.tempdir
    tempfile.tempdir = str(tmp_path / "gone")
    try:
        with pytest.raises(Unavailable, match="could not be tried"):
            trial.attempt(model.text.encode(), golden_of(model))
    finally:
        tempfile.tempdir = before
    trial.attempt(model.text.encode(), golden_of(model))


def test_a_killed_trial_may_be_tried_again() -> None:
    model = trained()
    text = edit(model.text, "left_child", put(0, "0"))
    text = edit(text, "right_child", put(0, "0"))
    stop = threading.Event()
    killer = threading.Thread(target=_kill_probes, args=(stop,))
    killer.start()
    try:
        with pytest.raises(Unavailable, match="ended by SIGKILL"):
            trial.attempt(text.encode(), golden_of(model))
    finally:
        stop.set()
        killer.join()


def _kill_probes(stop: threading.Event) -> None:
    """kill -9 of this process's children that try a booster."""
    while not stop.wait(0.2):
        for child in psutil.Process().children():
            if any("probe.py" in part for part in child.cmdline()):
                child.kill()


def test_a_booster_that_lightgbm_cannot_read_is_refused() -> None:
    with pytest.raises(BundleRefused, match=r"refused by LightGBM: .*doesn't specify"):
        trial.attempt(b"nothing of the kind", golden_of(trained()))


def test_an_embedder_with_another_digest_is_refused(sound: Path) -> None:
    embedder = load_embedder()
    trained_with = describe_embedder(embedder)
    manifest = replace(bundles.manifest_of(read_files(sound)), embedder=trained_with)
    check_embedder(manifest, embedder)
    other = replace(manifest, embedder=replace(manifest.embedder, digest="0" * 64))
    with pytest.raises(BundleRefused, match="install the version that it was trained with"):
        check_embedder(other, embedder)


def zipped(entries: list[tuple[zipfile.ZipInfo, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for info, data in entries:
            info.compress_type = method
            archive.writestr(info, data)
    return buffer.getvalue()


def entry(name: str, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    return info


@pytest.mark.parametrize(
    ("name", "mode", "reason"),
    [
        ("../evil", stat.S_IFREG, "'../evil' is not a file of a bundle"),
        ("/etc/passwd", stat.S_IFREG, "'/etc/passwd' is not a file of a bundle"),
        ("sub/accuracy.txt", stat.S_IFREG, "is not a file of a bundle"),
        ("accuracy.txt", stat.S_IFREG, "stands in the archive 2 times"),
    ],
)
def test_a_hostile_entry_is_refused(
    sound: Path, tmp_path: Path, name: str, mode: int, reason: str
) -> None:
    files = [(entry(found), data) for found, data in read_files(sound).items()]
    archive = zipped([*files, (entry(name, mode), b"x")])
    with pytest.raises(BundleRefused, match=reason):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_link_in_an_archive_is_refused(sound: Path, tmp_path: Path) -> None:
    files = read_files(sound)
    archive = zipped(
        [
            (entry(name, stat.S_IFLNK if name == ARRAYS else stat.S_IFREG), data)
            for name, data in files.items()
        ]
    )
    with pytest.raises(BundleRefused, match="is not a plain file in the archive"):
        unpack(archive, tmp_path / "out")


def test_a_zip_bomb_is_refused_without_being_opened(tmp_path: Path) -> None:
    archive = zipped([(entry(name), bytes(1 << 20)) for name in MAX_BYTES], zipfile.ZIP_DEFLATED)
    assert len(archive) < 20_000
    with pytest.raises(BundleRefused, match="is compressed in the archive"):
        unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("spoil", [lambda a: a + b"x", lambda a: b"#!/bin/sh\n" + a])
def test_an_archive_that_holds_more_than_its_files_is_refused(
    sound: Path, spoil: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(BundleRefused, match="holds more than its files"):
        loader.load_archive(spoil(pack(sound)), trusted=TRUSTED, probe=False)


@pytest.mark.parametrize("archive", [b"", b"PK", b"\x80\x04N.", bytes(22)])
def test_what_is_no_archive_is_refused(archive: bytes) -> None:
    with pytest.raises(BundleRefused, match="is not a readable zip"):
        loader.load_archive(archive, trusted=TRUSTED)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 1 << 20), mask=st.integers(1, 255))
def test_an_archive_with_any_byte_changed_never_loads(
    sound: Path, position: int, mask: int
) -> None:
    with pytest.raises(BundleRefused):
        loader.load_archive(flip(pack(sound), position, mask), trusted=TRUSTED, probe=False)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(length=st.integers(0, 1 << 20))
def test_an_archive_cut_short_never_loads(sound: Path, length: int) -> None:
    archive = pack(sound)
    with pytest.raises(BundleRefused):
        loader.load_archive(archive[: length % len(archive)], trusted=TRUSTED, probe=False)
