"""leadline decide: decisions for a file of queries, with no server and no database."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from router.commands.options import JsonFlag, Out, PolicyPath, SloText, TrustedKeys, slos
from router.commands.output import print_json, progress, say, written

CHUNK = 1_024


def decide(
    *,
    policy: PolicyPath,
    queries: Annotated[
        str, typer.Option("--queries", help='JSONL of {"query_id", "query"}; - is stdin.')
    ],
    slo: SloText = "{}",
    out: Out,
    trusted_key: TrustedKeys = None,
    as_json: JsonFlag = False,
) -> None:
    """Decides for every query of a file, in order; for several slos, one slo after the other.

    Example: leadline decide --policy bundle/ --queries q.jsonl --slo '{"min_accuracy": 0.8}'
    --out decisions.jsonl
    """
    objectives, many = slos(slo)
    from router.commands import lines  # noqa: PLC0415
    from router.offline import Policy  # noqa: PLC0415

    trained = Policy.load(policy, trusted_keys=trusted_key or ())
    decided = 0
    with _opened(queries) as source, written(out) as file, progress() as shown:
        task = shown.add_task("deciding", total=None)
        asked = lines.asked(source)
        for part in [list(asked)] if many else lines.parts(asked, CHUNK):
            for place, each, decision in trained.decide_many(part, objectives):
                file.write(lines.decision_line(each, decision, place if many else None))
                shown.advance(task)
                decided += 1
    _finish({"decisions": decided, "slos": len(objectives), "out": str(out)}, out, as_json=as_json)


@contextmanager
def _opened(queries: str) -> Iterator[Iterable[bytes]]:
    if queries == "-":
        yield sys.stdin.buffer
        return
    file: BinaryIO
    with Path(queries).open("rb") as file:
        yield file


def _finish(summary: dict[str, object], out: Path, *, as_json: bool) -> None:
    if str(out) == "-":
        return
    if as_json:
        print_json(summary)
    else:
        say(f"{summary['decisions']} decisions in {out}")
