"""The report: one HTML file that needs nothing else."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from training.benchmark.figures import drawn
from training.benchmark.results import Results
from training.benchmark.shown import headline, tables


def rendered(results: Results) -> str:
    """The HTML text; the same results give the same bytes."""
    environment = Environment(
        loader=PackageLoader("training.benchmark", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(
        lines=headline(results),
        tables=tables(results),
        figures=[(each.title, each.note, Markup(each.svg)) for each in drawn(results)],  # noqa: S704
        constants=results.constants,
    )
