"""The command `leadline`: one Typer app whose groups come from entry points.

Each package that offers commands names a function in the entry-point group
`leadline.commands`; it is called with the app and adds its own. Exit codes: 0 done,
1 failed, 2 bad usage. Errors are one line on stderr.
"""

from __future__ import annotations

import sys
from importlib.metadata import entry_points

import typer
from rich.console import Console

from router.errors import LeadlineError

GROUP = "leadline.commands"

errors = Console(stderr=True, highlight=False, soft_wrap=True)


def build() -> typer.Typer:
    """The app with every installed package's commands."""
    app = typer.Typer(
        name="leadline",
        help="Routes LLM queries to the cheapest model and strategy that is good enough.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        entry.load()(app)
    return app


def main() -> None:
    """Runs the command; a LeadlineError or Ctrl-C ends it in one line."""
    try:
        build()()
    except LeadlineError as error:
        errors.print(f"leadline: {error.message}", style="red", markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        errors.print("leadline: interrupted", style="red")
        sys.exit(130)
