"""Runs the promises: `python -m tests.promises [--step N] [--only WORD] [--readme]`."""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import sys
import time
import traceback
from collections.abc import Sequence
from typing import TypedDict

from rich.console import Console
from rich.table import Table

import tests.promises as package
from tests.promises import PROMISES, RESULTS, ROOT, Measured, Promise

console = Console()
START, END = "<!-- promises -->", "<!-- /promises -->"


class Result(TypedDict):
    """One promise as `build/promises.json` holds it."""

    name: str
    must: str
    measured: str
    held: bool


def main() -> int:
    """Exit code 0 when every promise that ran was held, else 1."""
    options = _options()
    if options.readme:
        return _write_readme()
    for module in pkgutil.iter_modules(package.__path__, "tests.promises."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    chosen = [
        each
        for each in PROMISES
        if options.step in (0, each.step) and options.only.lower() in each.name.lower()
    ]
    results = []
    for each in chosen:
        results.append(_run(each))
        _save(results)
    _show(results)
    return 0 if results and all(result["held"] for result in results) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make promises", description=__doc__)
    parser.add_argument("--step", type=int, default=0, help="this step's promises alone")
    parser.add_argument("--only", default="", help="promises whose name holds this word")
    parser.add_argument("--readme", action="store_true", help="write the README's table and stop")
    return parser.parse_args()


def _run(each: Promise) -> Result:
    console.print(f"[bold]{each.name}[/] ...")
    started = time.monotonic()
    try:
        measured = each.measure()
    except Exception as error:  # noqa: BLE001 - one broken promise must not hide the others
        traceback.print_exc()
        measured = Measured(figures=f"failed: {type(error).__name__}: {error}", held=False)
    verdict = "[green]held[/]" if measured.held else "[red]not held[/]"
    console.print(f"  {verdict} in {time.monotonic() - started:.0f} s: {measured.figures}")
    return Result(name=each.name, must=each.must, measured=measured.figures, held=measured.held)


def _save(results: Sequence[Result]) -> None:
    """Keeps the results of promises that did not run this time."""
    kept = {result["name"]: result for result in _load()}
    kept |= {result["name"]: result for result in results}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(list(kept.values()), indent=2) + "\n")


def _load() -> list[Result]:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else []


def _show(results: Sequence[Result]) -> None:
    table = Table("name", "must", "measured", "held", title="Promises")
    for result in results:
        table.add_row(
            result["name"], result["must"], result["measured"], "yes" if result["held"] else "NO"
        )
    console.print(table)


def _write_readme() -> int:
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text().partition(START)
    _, _, after = rest.partition(END)
    rows = "\n".join(
        f"| {each['name']} | {each['must']} | {each['measured']} | "
        f"{'yes' if each['held'] else '**no**'} |"
        for each in _load()
    )
    head = "| promise | must | measured | held |\n| --- | --- | --- | --- |"
    readme.write_text(f"{before}{START}\n{head}\n{rows}\n{END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
