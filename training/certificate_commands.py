"""leadline certificates: what is promised of accuracy, with a confidence and a sample size."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from router.commands.database import DEFAULT_TENANT
from router.commands.options import (
    Dsn,
    JsonFlag,
    PolicyPath,
    SloText,
    TenantName,
    TrustedKeys,
    slos,
)
from router.commands.output import print_json, say, show, table
from router.errors import InvalidInput
from training.log_commands import SkipBadRows

if TYPE_CHECKING:
    import pyarrow as pa

    from router.policy.certificate import Window
    from router.store.promise_seams import Promises

app = typer.Typer(
    help="What is promised of accuracy, with a confidence and a sample size.",
    no_args_is_help=True,
)


@app.callback()
def certificates() -> None:
    """What is promised of accuracy, with a confidence and a sample size."""


@app.command("compute")
def compute(
    *,
    policy: PolicyPath,
    log: Annotated[Path, typer.Option("--log", help="Outcomes that it has not learnt from.")],
    slo: SloText,
    queries: Annotated[
        Path | None,
        typer.Option(
            "--queries",
            help='JSONL of more {"query"}s without outcome, which sharpen the certificate.',
            show_default=False,
        ),
    ] = None,
    trusted_key: TrustedKeys = None,
    skip_bad_rows: SkipBadRows = False,
    as_json: JsonFlag = False,
) -> None:
    """Certifies an accuracy floor from an outcome log, with no server and no database.

    The log is of other queries than the policy has learnt from, drawn like those to come.
    It has every arm's score for each query, or the one arm's that was picked with its
    propensity. An array of slos gives one certificate each.

    Example: leadline certificates compute --policy bundle/ --log new.parquet
    --slo '{"min_accuracy": 0.8}'
    """
    objectives, many = slos(slo)
    from router.offline import Policy  # noqa: PLC0415
    from training.certifying import certificate  # noqa: PLC0415
    from training.log.dataset import Dataset  # noqa: PLC0415
    from training.log.sources import read  # noqa: PLC0415

    loaded = Policy.load(policy, trusted_keys=trusted_key or ())
    outcomes = read(log, skip_bad_rows=skip_bad_rows).table
    dataset = Dataset.from_table(outcomes)
    if loaded.manifest.training.get("dataset_digest") == dataset.digest:
        raise InvalidInput(
            "the policy has learnt from this very log, and would be certified by what it "
            "knows by heart; bring outcomes of other queries",
            field="log",
        )
    pool, window = _pool(queries), _window(outcomes)
    found = [
        certificate(loaded.bound, dataset, each, pool=pool, window=window).to_mapping()
        for each in objectives
    ]
    if as_json:
        print_json(found if many else found[0])
        return
    for each in found:
        _tell(each)


def _pool(queries: Path | None) -> list[str]:
    """The texts of queries without outcome."""
    if queries is None:
        return []
    texts = []
    with queries.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                texts.append(_text(line, number))
    return texts


def _text(line: str, number: int) -> str:
    try:
        value = json.loads(line)["query"]
    except (ValueError, KeyError, TypeError, RecursionError):
        value = None
    if not isinstance(value, str):
        raise InvalidInput(f'line {number} is no JSON object with a "query"', field="queries")
    return value


def _window(outcomes: pa.Table) -> Window | None:
    """From the first to the last time in the log; None where it has none."""
    import pyarrow.compute as pc  # noqa: PLC0415

    from router.policy.certificate import Window  # noqa: PLC0415

    ends = pc.min_max(outcomes["occurred_at"]).as_py()
    return None if ends["min"] is None else Window(since=ends["min"], until=ends["max"])


_SHOWN = (
    "floor",
    "estimate",
    "lower_bound",
    "confidence",
    "n",
    "effective_n",
    "needed_n",
    "left_out",
    "unlabelled_n",
    "value_usd",
    "cost_usd",
    "source_digest",
)


def _tell(found: Mapping[str, Any], more: Mapping[str, Any] | None = None) -> None:
    """Prints a certificate for a person, with what else is known of it and of its inputs."""
    say(str(found["message"]))
    named = {**(more or {}), **{name: found[name] for name in _SHOWN}}
    named |= {name.replace("_", " "): value for name, value in found.get("inputs", {}).items()}
    table([(name, value) for name, value in named.items() if value is not None], ("", ""))


@app.command("list")
def list_(
    *,
    tenant: TenantName = DEFAULT_TENANT,
    slo: Annotated[str, typer.Option("--slo", help="Of this slo's name alone.")] = "",
    limit: Annotated[int, typer.Option(help="Most certificates to list.", min=1)] = 50,
    dsn: Dsn = "",
    as_json: JsonFlag = False,
) -> None:
    """Lists a tenant's certificates, newest first; 'leadline watch' writes them.

    Example: leadline certificates list --slo chat
    """
    with _stored(dsn, tenant) as (promises, tenant_id):
        records = promises.certificates(tenant_id, slo, limit)
    columns = ("certificate", "slo", "version", "policy", "written", "what it says")
    rows = [
        (
            *(each.certificate_id, each.slo_name, each.slo_version, each.policy_version),
            *(each.created_at, each.body.get("message")),
        )
        for each in records
    ]
    show(records, rows, columns, as_json=as_json, empty="no certificates")


@app.command("show")
def show_(
    certificate_id: Annotated[
        UUID, typer.Argument(metavar="ID", help="As 'leadline certificates list' shows it.")
    ],
    *,
    tenant: TenantName = DEFAULT_TENANT,
    dsn: Dsn = "",
    as_json: JsonFlag = False,
) -> None:
    """Shows a certificate with its inputs.

    Example: leadline certificates show 0198c5b6-...
    """
    with _stored(dsn, tenant) as (promises, tenant_id):
        record = promises.certificate(tenant_id, certificate_id)
    if as_json:
        print_json(record)
        return
    own = {"slo": f"{record.slo_name} version {record.slo_version}", "written": record.created_at}
    _tell({**dict.fromkeys(_SHOWN), "message": record.certificate_id, **record.body}, own)


@contextmanager
def _stored(dsn: str, tenant: str) -> Iterator[tuple[Promises, UUID]]:
    """The certificates of the database, and whose to look at."""
    from router.commands.database import database  # noqa: PLC0415
    from router.store.promises import PostgresPromises  # noqa: PLC0415

    with database(dsn) as opened:
        yield PostgresPromises(opened.router), opened.tenant_id(tenant)
