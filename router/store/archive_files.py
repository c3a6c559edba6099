"""An archive on disk: a month's rows per table and tenant as Parquet, and what vouches for them.

DIRECTORY/TABLE/tenant=NAME/month=2026-01/part-NUMBER.parquet, which any reader of partitioned
Parquet understands, and DIRECTORY/months/2026-01.json. A month is in the archive once that
file is: it is written last, whole or not at all, and names each file with its rows and
digests. What it does not name is a leftover of a process that was killed, and goes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from router.errors import ConfigurationError

MONTHS = "months"
_DIGITS = 15
_TEMPORARY = ".writing"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedFile:
    """One file of a month: its rows, the digest of their keys and that of its bytes."""

    table: str
    tenant: str
    path: str
    rows: int
    keys: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedMonth:
    """What the archive holds of a month, as "2026-01"."""

    month: str
    files: tuple[ArchivedFile, ...]

    @property
    def rows(self) -> Mapping[str, int]:
        """How many rows there are of each table."""
        tables = sorted({each.table for each in self.files})
        return {
            table: sum(each.rows for each in self.files if each.table == table) for table in tables
        }


_MONTH: TypeAdapter[ArchivedMonth] = TypeAdapter(ArchivedMonth)


def keys_digest(keys: Iterable[str]) -> str:
    """A digest of keys in any order, the same that Postgres works out (`KEYS_SQL`)."""
    total = sum(
        int(hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()[:_DIGITS], 16)
        for key in keys
    )
    return str(total)


KEYS_SQL = (
    f"cast(coalesce(sum(cast(cast('x' || substr(md5({{key}}), 1, {_DIGITS}) as bit"
    f"({4 * _DIGITS})) as bigint)), 0) as text)"
)


class ArchiveDirectory:
    """The archive's directory, which only its owner may read: it holds queries."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def months(self) -> list[ArchivedMonth]:
        """The months that are archived, oldest first."""
        found = sorted((self.root / MONTHS).glob("*.json"))
        return [_MONTH.validate_json(path.read_bytes()) for path in found]

    def month(self, month: str) -> ArchivedMonth | None:
        """A month, where it is archived."""
        path = self._month_path(month)
        return _MONTH.validate_json(path.read_bytes()) if path.exists() else None

    def write(
        self,
        batches: Iterable[pa.RecordBatch],
        schema: pa.Schema,
        *,
        table: str,
        tenant: str,
        month: str,
        key: tuple[str, ...],
    ) -> ArchivedFile | None:
        """Writes a file that no one trusts yet, and reads it again; None where there is no row.

        `key` names the columns that tell rows apart. Raises ConfigurationError when the disk
        gives back other than what it was given.
        """
        folder = self.root / table / f"tenant={tenant}" / f"month={month}"
        self._make(folder)
        path = folder / f"part-{_next(folder)}.parquet"
        aside = path.with_suffix(_TEMPORARY)
        given = _Content(key)
        with pq.ParquetWriter(aside, schema, compression="zstd") as file:
            for batch in batches:
                given.add(batch)
                file.write_batch(batch)
        aside.chmod(0o600)
        _sync(aside)
        kept = _content(aside, key)
        if kept != given:
            raise ConfigurationError(f"{aside} reads other than it was written; check the disk")
        if not kept.rows:
            aside.unlink()
            return None
        aside.rename(path)
        _sync(folder)
        return ArchivedFile(
            table=table,
            tenant=tenant,
            path=str(path.relative_to(self.root)),
            rows=kept.rows,
            keys=str(kept.keys),
            sha256=_sha256(path),
        )

    def vouch(self, month: ArchivedMonth) -> None:
        """Makes the month what these files say, all at once, and removes all others of it."""
        path = self._month_path(month.month)
        self._make(path.parent)
        aside = path.with_suffix(_TEMPORARY)
        aside.write_bytes(_MONTH.dump_json(month, indent=2))
        _sync(aside)
        aside.rename(path)
        _sync(path.parent)
        self.tidy(month.month)

    def tidy(self, month: str) -> None:
        """Removes the files of a month that nothing vouches for."""
        known = self.month(month)
        named = {each.path for each in known.files} if known else set()
        for path in self.root.glob(f"*/tenant=*/month={month}/*"):
            if str(path.relative_to(self.root)) not in named:
                path.unlink()

    def check(self, month: ArchivedMonth) -> None:
        """Raises ConfigurationError unless every file is there as it was written."""
        for each in month.files:
            path = self.root / each.path
            if not path.exists() or _sha256(path) != each.sha256:
                raise ConfigurationError(
                    f"{path} is not the file that was archived; nothing of {month.month} is "
                    "dropped before it is back"
                )

    def read(self, file: ArchivedFile) -> Iterator[pa.RecordBatch]:
        """The rows of a file, some at a time."""
        with pq.ParquetFile(self.root / file.path) as opened:
            yield from opened.iter_batches(10_000)

    def _month_path(self, month: str) -> Path:
        return self.root / MONTHS / f"{month}.json"

    def _make(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.root.chmod(0o700)
        except OSError as error:
            raise ConfigurationError(
                f"{folder} cannot be written ({error.strerror}); name another archive"
            ) from None


class _Content:
    """What rows hold, in their order, however they are cut into batches."""

    def __init__(self, key: tuple[str, ...]) -> None:
        self._key = key
        self._hash = hashlib.sha256()
        self.rows = 0
        self.keys = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Adds a batch's rows."""
        self.rows += len(batch)
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            self._hash.update(orjson.dumps(row))
        named = [batch.column(name).cast(pa.string()) for name in self._key]
        joined = pc.binary_join_element_wise(*named, ":")
        self.keys += int(keys_digest(joined.to_pylist()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Content) and self._all() == other._all()

    __hash__ = None  # type: ignore[assignment]

    def _all(self) -> tuple[int, int, bytes]:
        return self.rows, self.keys, self._hash.digest()


def _content(path: Path, key: tuple[str, ...]) -> _Content:
    found = _Content(key)
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(10_000):
            found.add(batch)
    return found


def _next(folder: Path) -> int:
    numbers = [int(path.stem.removeprefix("part-")) for path in folder.glob("part-*.parquet")]
    return max(numbers, default=-1) + 1


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
