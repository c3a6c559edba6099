"""Stages of a training run: each leaves a result that is there whole or not at all.

A result's name tells the digest of all that it was made of, so that a run which was broken
off does again only what is missing, and what another version or watermark left is not taken
for its own. On another machine, which has none of it, everything is done again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson

from router.errors import ConfigurationError

KEPT_RUNS = 3
"""So many directories of runs that failed or were left stay, for those who look why."""

LIBRARIES = ("leadline", "lightgbm", "numpy", "pyarrow", "scikit-learn", "scipy")

Make = Callable[[Path], None]


class Workshop:
    """The results of one run's stages, in a directory that only its owner may read.

    They hold queries, so the directory is removed once the run is done.
    """

    def __init__(self, root: Path, run_id: UUID, inputs: Sequence[Any]) -> None:
        self._root, self.directory = root, root / str(run_id)
        self._digest = _digest([inputs, [version(each) for each in LIBRARIES]])
        self.reused: list[str] = []

    def result(self, stage: str, make: Make, *inputs: int | str) -> Path:
        """The directory of a stage's result, made unless it is there.

        Each stage is made of these inputs and all those before it, in the order of these
        calls.
        """
        self._digest = _digest([self._digest, stage, inputs])
        place = self.directory / f"{stage}-{self._digest[:16]}"
        if place.is_dir():
            self.reused.append(stage)
            return place
        with _whole(place) as aside:
            make(aside)
        return place

    def remove(self) -> None:
        """Removes the results of the run, all at once: none is ever there in part."""
        if self.directory.is_dir():
            aside = self._root / f".{self.directory.name}"
            self.directory.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)

    def prune(self) -> None:
        """Removes the results of older runs, but those of the newest few."""
        others = [each for each in self._root.glob("[!.]*") if each != self.directory]
        older = sorted(others, key=lambda each: each.stat().st_mtime)[:-KEPT_RUNS]
        for old in (*older, *self._root.glob(".*")):
            shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _whole(place: Path) -> Iterator[Path]:
    """A directory that takes its place once it is whole and on disk, or never."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        aside = Path(tempfile.mkdtemp(dir=place.parent, prefix="."))
    except OSError as error:
        raise ConfigurationError(
            f"{place.parent} cannot be written ({error.strerror}); set LEADLINE_STATE_DIR"
        ) from None
    try:
        yield aside
        for each in (*aside.rglob("*"), aside):
            _sync(each)
        aside.rename(place)
        _sync(place.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(value: Any) -> str:
    return hashlib.sha256(orjson.dumps(value)).hexdigest()
