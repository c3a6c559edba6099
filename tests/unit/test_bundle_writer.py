"""The writer makes the same bytes of the same inputs, and takes nothing it could not load."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from router.bundle.archive import pack
from router.bundle.manifest import MAX_BYTES
from router.errors import BundleRefused, InvalidInput
from tests.kit.bundles import arrays, make, trained


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    make(tmp_path / "a")
    make(tmp_path / "b", arrays=dict(reversed(list(arrays().items()))))
    assert pack(tmp_path / "a") == pack(tmp_path / "b")


def test_a_bundle_replaces_the_one_before(tmp_path: Path) -> None:
    make(tmp_path / "a", training={"run": 1})
    first = pack(tmp_path / "a")
    make(tmp_path / "a", training={"run": 2})
    assert pack(tmp_path / "a") != first
    assert {path.name for path in (tmp_path / "a").iterdir()} == set(MAX_BYTES)


def test_a_directory_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InvalidInput, match="holds something else"):
        make(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("array", [np.array(["text"]), np.array([None]), np.array([1j])])
def test_arrays_of_other_than_numbers_are_refused_by_name(
    tmp_path: Path, array: np.ndarray[tuple[int], np.dtype[np.generic]]
) -> None:
    with pytest.raises(InvalidInput, match=r"arrays\.odd"):
        make(tmp_path / "a", arrays={"odd": array})


def test_golden_scores_must_be_finite_and_match_their_rows(tmp_path: Path) -> None:
    model = trained()
    for raw in (model.raw[:-1], np.full_like(model.raw, np.nan)):
        with pytest.raises(BundleRefused, match=r"golden\.safetensors"):
            make(tmp_path / "a", golden_raw=raw)
    assert not (tmp_path / "a").exists()
