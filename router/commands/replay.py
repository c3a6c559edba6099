"""leadline replay: what the policy would have done with a recorded log, continuation on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from router.commands.options import JsonFlag, Out, PolicyPath, SloText, TrustedKeys, slos
from router.commands.output import print_json, progress, say, written


def replay(
    *,
    policy: PolicyPath,
    log: Annotated[
        Path, typer.Option("--log", help="Outcome log: Parquet, CSV or JSONL.", exists=True)
    ],
    slo: SloText = "{}",
    out: Out,
    trusted_key: TrustedKeys = None,
    as_json: JsonFlag = False,
) -> None:
    """Walks a full-information log: the policy sees a row only once it attempts its arm.

    Scores are never read. An arm without a row for a query is not available for it.
    Example: leadline replay --policy bundle/ --log test.parquet --slo '{"min_accuracy": 0.8}'
    --out replay.jsonl
    """
    objectives, many = slos(slo)
    from router.commands import lines, recorded  # noqa: PLC0415
    from router.offline import Policy  # noqa: PLC0415

    trained = Policy.load(policy, trusted_keys=trusted_key or ())
    queries = recorded.read(log)
    with written(out) as file, progress() as shown:
        task = shown.add_task("replaying", total=len(queries) * len(objectives))
        for place, replayed in trained.replay(queries, objectives):
            file.write(lines.replay_line(replayed, place if many else None))
            shown.advance(task)
    if str(out) == "-":
        return
    if as_json:
        print_json({"queries": len(queries), "slos": len(objectives), "out": str(out)})
    else:
        say(f"{len(queries)} queries replayed under {len(objectives)} slos in {out}")
