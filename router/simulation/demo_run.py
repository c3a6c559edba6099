"""One run of the demo as its command sees it: the run, the report, the table, the failures."""

from __future__ import annotations

import asyncio
import sys

from router.commands.output import print_json, to_json
from router.simulation.demo import run
from router.simulation.demo_children import ChildFailed
from router.simulation.demo_figures import Plan
from router.simulation.demo_place import Place
from router.simulation.demo_screen import Screen
from router.simulation.demo_summary import Summary
from router.simulation.report import write


def perform(plan: Plan, place: Place, *, as_json: bool) -> bool:
    """Runs the demo and shows its result; False when it was interrupted.

    Raises ChildFailed, once the end of the process's log is on the screen.
    """
    screen = Screen.of_terminal()
    try:
        with screen.opened(place):
            result = asyncio.run(run(plan, place, screen))
    except KeyboardInterrupt:
        sys.stderr.write(
            f"leadline: interrupted; every process of the demo has ended, its logs are in "
            f"{place.logs}\n"
        )
        return False
    except ChildFailed as error:
        screen.fail(error.last_lines)
        raise
    summary = Summary.of(result)
    write(result, summary, place)
    figures = summary.to_mapping(result, place)
    place.result.write_bytes(to_json(figures) + b"\n")
    if as_json:
        print_json(figures)
    else:
        screen.show(result, summary, place)
    return True
