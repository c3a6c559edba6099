"""A bundle's files, as a directory and as one deterministic zip."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path

from router.bundle.manifest import MAX_BYTES
from router.errors import BundleRefused

MAX_TOTAL_BYTES = 320 << 20
"""The most bytes of all files together, and of an archive."""

Files = Mapping[str, bytes]

_EPOCH = (1980, 1, 1, 0, 0, 0)
_UNREADABLE = (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, OSError, EOFError)


def pack(directory: Path) -> bytes:
    """The archive of a bundle's directory; the same files give the same bytes."""
    return pack_files(read_files(directory))


def unpack(archive: bytes, directory: Path) -> None:
    """Writes an archive's files into a directory that is new or empty.

    Raises BundleRefused before anything is written when the archive is not one of ours.
    """
    files = unpack_files(archive)
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise BundleRefused(f"{directory} is not empty; unpack the bundle into a new directory")
    write_files(directory, files)


def read_files(directory: Path) -> Files:
    """Every file of a bundle's directory, read once. Raises BundleRefused."""
    try:
        found = {entry.name: entry.stat(follow_symlinks=False) for entry in os.scandir(directory)}
    except OSError as error:
        raise BundleRefused(f"{directory} cannot be read ({error.strerror})") from None
    _check_names(list(found))
    for name, status in found.items():
        if not stat.S_ISREG(status.st_mode):
            raise BundleRefused(f"{name} is not a plain file")
    _check_sizes({name: status.st_size for name, status in found.items()})
    return {name: _read(directory / name, status.st_size) for name, status in found.items()}


def write_files(directory: Path, files: Files) -> None:
    """Writes the files and makes them durable."""
    for name, data in files.items():
        with (directory / name).open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def pack_files(files: Files) -> bytes:
    """The archive of these files: stored, sorted by name, with fixed timestamps."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = 3
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, files[name])
    return buffer.getvalue()


def unpack_files(archive: bytes) -> Files:
    """The files of an archive, which must be byte for byte what `pack_files` makes of them."""
    if len(archive) > MAX_TOTAL_BYTES:
        raise BundleRefused(f"the archive has more than {MAX_TOTAL_BYTES:,} bytes")
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            entries = opened.infolist()
            _check_entries(entries)
            files = {entry.filename: opened.read(entry) for entry in entries}
    except _UNREADABLE as error:
        raise BundleRefused(f"the archive is not a readable zip ({error!s:.100})") from None
    if pack_files(files) != archive:
        raise BundleRefused("the archive holds more than its files, or is not in canonical form")
    return files


def _check_entries(entries: list[zipfile.ZipInfo]) -> None:
    _check_names([entry.orig_filename for entry in entries])
    for entry in entries:
        if entry.is_dir() or stat.S_IFMT(entry.external_attr >> 16) != stat.S_IFREG:
            raise BundleRefused(f"{entry.filename} is not a plain file in the archive")
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise BundleRefused(f"{entry.filename} is compressed in the archive")
    _check_sizes({entry.filename: entry.file_size for entry in entries})


def _check_names(names: list[str]) -> None:
    for name in sorted(names):
        if name not in MAX_BYTES:
            raise BundleRefused(f"{name!r:.100} is not a file of a bundle; remove it")
        if names.count(name) > 1:
            raise BundleRefused(f"{name} stands in the archive {names.count(name)} times")
    for name in MAX_BYTES:
        if name not in names:
            raise BundleRefused(f"{name} is missing")


def _check_sizes(sizes: Mapping[str, int]) -> None:
    for name, size in sizes.items():
        if size > MAX_BYTES[name]:
            raise BundleRefused(f"{name} has {size:,} bytes, more than {MAX_BYTES[name]:,}")
    if sum(sizes.values()) > MAX_TOTAL_BYTES:
        raise BundleRefused(f"the files have more than {MAX_TOTAL_BYTES:,} bytes together")


def _read(path: Path, size: int) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0))
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(size + 1)
    except OSError as error:
        raise BundleRefused(f"{path.name} cannot be read ({error.strerror})") from None
    if len(data) != size:
        raise BundleRefused(f"{path.name} changed while it was read; try again")
    return data
