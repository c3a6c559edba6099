"""Where a comparison's policies and interactions come from: bundles, files, the database."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from router.bundle.embedder import load_embedder
from router.errors import InvalidInput, NotFound
from router.offline import Policy
from router.slo import Slo
from router.store.attempts import SCHEMA, attempts
from router.store.catalog import PostgresCatalog
from router.store.engine import DatabaseRole, connect
from router.store.slos import PostgresSlos
from training.compare.log import Interactions, Learnt, Source
from training.log.dataset import Indices
from training.log.sources import read
from training.scores.interactions import settle

if TYPE_CHECKING:
    from router.commands.database import Database

_APPLICATION = "leadline policies compare"


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A policy and how it is called."""

    name: str
    policy: Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which policies to compare, and on which interactions: at most so many, the newest first.

    Those of the database are from `since` on, under their own slos; those of a `log` under
    each of `slos`.
    """

    policies: tuple[str, str]
    log: Path | None
    slos: Sequence[Slo]
    since: datetime
    most: int
    held_out: bool = False
    skip_bad_rows: bool = False
    trusted_keys: tuple[str, ...] = ()


@contextmanager
def reaching(dsn: str) -> Iterator[Callable[[], Database]]:
    """Opens the database when it is first asked for, once."""
    from router.commands.database import database  # noqa: PLC0415

    with ExitStack() as stack:
        yield cache(lambda: stack.enter_context(database(dsn)))


def policy(named: str, reach: Callable[[], Database], keys: Sequence[str]) -> Named:
    """The policy of a version or of a bundle's path. Raises NotFound or BundleRefused."""
    version = _version(named)
    if version is None:
        if not Path(named).exists():
            raise NotFound(f"{named!r:.200} is neither a version nor a bundle; name one of these")
        return Named(name=named, policy=Policy.load(named, trusted_keys=keys))
    from router.commands.explained import of  # noqa: PLC0415

    catalog = PostgresCatalog(reach().admin).read()
    return Named(name=f"policy {version}", policy=of(reach(), version, catalog, keys))


def _version(named: str) -> int | None:
    return int(named) if named.isascii() and named.isdecimal() else None


def from_file(path: Path, both: tuple[Policy, Policy], wanted: Wanted) -> tuple[Interactions, str]:
    """A log's interactions, each under every slo, and what they are in words."""
    table = read(path, skip_bad_rows=wanted.skip_bad_rows).table
    source = Source(
        table=table,
        learnt=_learnt(both),
        slos=tuple((_said(slo), slo) for slo in wanted.slos),
        most=wanted.most,
        held_out=wanted.held_out,
    )
    found = source.interactions(load_embedder())
    return found, f"{path.name}, {len(table):,} rows"


def _said(slo: Slo) -> str:
    """An slo by its name and by what it asks."""
    usual = Slo().to_mapping()
    own = [
        f"{name} {value}" for name, value in slo.to_mapping().items() if value != usual.get(name)
    ]
    return ", ".join(own) or slo.name


def from_database(
    database: Database, both: tuple[Policy, Policy], wanted: Wanted, *, now: datetime
) -> tuple[Interactions, str]:
    """The first attempts of decisions made since a time, each under its own slo as it is now.

    Raises InvalidInput when there is none of which anything is known.
    """
    table = _first_attempts(database.dsn, wanted.since)[-wanted.most :]
    if not len(table):
        raise InvalidInput(
            f"no decision was made since {wanted.since:%F}; look further back with --days, or "
            "name a log",
            field="days",
        )
    embedder = load_embedder()
    log = settle(table.to_batches(), now=now, embedder=embedder).log.table
    keys, slos = _slos(database, table)
    place = dict(zip(table["decision_id"].to_pylist(), keys.tolist(), strict=True))
    slo = np.array([place[each] for each in log["decision_id"].to_pylist()], np.intp)
    source = Source(
        table=log,
        learnt=_learnt(both),
        slos=slos,
        most=wanted.most,
        held_out=wanted.held_out,
    )
    return source.interactions(embedder, slo=slo), f"{len(log):,} decisions since {wanted.since:%F}"


def _first_attempts(dsn: str, since: datetime) -> pa.Table:
    """Those of our own decisions since a time, in their order."""
    engine = connect(dsn, role=DatabaseRole.TRAINER, application_name=_APPLICATION)
    try:
        every = pa.Table.from_batches(attempts(engine, since=since), SCHEMA)
    finally:
        engine.dispose()
    return every.filter(pc.and_(pc.equal(every["attempt"], 0), pc.invert(every["imported"])))


def _learnt(both: tuple[Policy, Policy]) -> tuple[Learnt, Learnt]:
    one, other = (Learnt.of(each.manifest.training) for each in both)
    return one, other


def _slos(database: Database, table: pa.Table) -> tuple[Indices, tuple[tuple[str, Slo], ...]]:
    """The place (n,) of each row's slo, and the slos by tenant and name as they are now."""
    pairs = list(
        zip(table["tenant"].fill_null("").to_pylist(), table["slo_name"].to_pylist(), strict=True)
    )
    names = sorted(set(pairs), key=lambda each: (each[0], each[1] or ""))
    known = {tenant: _current(database, tenant) for tenant in {tenant for tenant, _ in names}}
    found = tuple(
        (f"{tenant} {name or 'none'}", known[tenant].get(name or "", Slo()))
        for tenant, name in names
    )
    place = {pair: number for number, pair in enumerate(names)}
    return np.array([place[pair] for pair in pairs], np.intp), found


def _current(database: Database, tenant: str) -> Mapping[str, Slo]:
    try:
        tenant_id = database.tenant_id(tenant)
    except NotFound:
        return {}
    return {slo.name: slo for slo in PostgresSlos(database.router).current(tenant_id)}
