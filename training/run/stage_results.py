"""What the stages of a training run leave on disk, and how the next ones read it: no pickle."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from router.bundle.archive import pack
from router.bundle.manifest import MANIFEST
from router.bundle.signing import SigningKey
from router.store.attempts import SCHEMA
from router.types import Model
from training.learning.policy import write_bundle
from training.learning.targets import Trained
from training.log.sides import Sides
from training.log.sources import Log
from training.scores.interactions import Settled

_MODELS: TypeAdapter[tuple[Model, ...]] = TypeAdapter(tuple[Model, ...])
_ATTEMPTS, _CATALOG, _LOG = "attempts.parquet", "models.json", "log.parquet"
_SUMMARY, _SIDES, _BUNDLE = "summary.json", "sides.npz", "bundle"
_VERDICT, _LOOKED = "verdict.json", "looked.json"


@dataclass(frozen=True, kw_only=True)
class Interactions:
    """The attempts before a watermark (`router.store.attempts`) and the catalog's models."""

    attempts: pa.Table
    models: tuple[Model, ...]

    @staticmethod
    def write(
        directory: Path, batches: Iterable[pa.RecordBatch], models: tuple[Model, ...]
    ) -> None:
        """Streams the batches to a file."""
        (directory / _CATALOG).write_bytes(_MODELS.dump_json(models))
        with pq.ParquetWriter(directory / _ATTEMPTS, SCHEMA, compression="zstd") as file:
            for batch in batches:
                file.write_batch(batch)

    @classmethod
    def read(cls, directory: Path) -> Interactions:
        """Reads what `write` left."""
        models = _MODELS.validate_json((directory / _CATALOG).read_bytes())
        return cls(attempts=pq.read_table(directory / _ATTEMPTS, schema=SCHEMA), models=models)


def write_settled(directory: Path, settled: Settled) -> None:
    """Leaves the log with its targets."""
    log = settled.log
    told = {
        "summary": settled.summary,
        "total": log.total,
        "refused": log.refused,
        "duplicates": log.duplicates,
    }
    (directory / _SUMMARY).write_bytes(orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY))
    pq.write_table(log.table, directory / _LOG, compression="zstd")


def read_settled(directory: Path) -> Settled:
    """Reads what `write_settled` left."""
    told = orjson.loads((directory / _SUMMARY).read_bytes())
    log = Log(
        table=pq.read_table(directory / _LOG),
        total=told["total"],
        refused=tuple((number, why) for number, why in told["refused"]),
        duplicates=told["duplicates"],
    )
    return Settled(log=log, summary=told["summary"])


def write_sides(directory: Path, sides: Sides) -> None:
    """Leaves which rows of the log stand on which side."""
    np.savez(directory / _SIDES, kept=sides.kept, held=sides.held, by_time=sides.by_time)


def read_sides(directory: Path) -> Sides:
    """Reads what `write_sides` left."""
    with np.load(directory / _SIDES, allow_pickle=False) as arrays:
        return Sides(kept=arrays["kept"], held=arrays["held"], by_time=bool(arrays["by_time"]))


def write_verdict(directory: Path, verdict: Mapping[str, Any]) -> None:
    """Leaves what the gate said."""
    (directory / _VERDICT).write_bytes(orjson.dumps(verdict, option=orjson.OPT_SERIALIZE_NUMPY))


def read_verdict(directory: Path) -> dict[str, Any]:
    """Reads what `write_verdict` left."""
    found: dict[str, Any] = orjson.loads((directory / _VERDICT).read_bytes())
    return found


def write_looked(directory: Path, found: Mapping[str, Any] | None) -> None:
    """Leaves what a stage looked at, whose figures may be infinite."""
    (directory / _LOOKED).write_text(json.dumps(found))


def read_looked(directory: Path) -> dict[str, Any] | None:
    """Reads what `write_looked` left."""
    found: dict[str, Any] | None = json.loads((directory / _LOOKED).read_text())
    return found


@dataclass(frozen=True, kw_only=True)
class Taught:
    """A policy as a bundle in a directory, with its summary."""

    bundle: Path
    summary: Mapping[str, Any]

    @staticmethod
    def write(directory: Path, policy: Trained, key: SigningKey, made_at: datetime) -> None:
        """Leaves the policy as a signed bundle."""
        write_bundle(policy, directory / _BUNDLE, key, made_at)

    @classmethod
    def read(cls, directory: Path) -> Taught:
        """Reads what `write` left."""
        manifest = orjson.loads((directory / _BUNDLE / MANIFEST).read_bytes())
        return cls(bundle=directory / _BUNDLE, summary=manifest["training"])

    def archive(self) -> bytes:
        """The bundle as the registry holds it."""
        return pack(self.bundle)
