"""The command `leadline`: one Typer app whose groups come from entry points.

Each package that offers commands names a function in the entry-point group
`leadline.commands`; it is called with the app and adds its own. Exit codes: 0 done,
1 failed, 2 bad usage. Errors are one line on stderr.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import entry_points

import typer
from rich.console import Console

from router.errors import LeadlineError

GROUP = "leadline.commands"
DONE, FAILED, BAD_USAGE, INTERRUPTED = 0, 1, 2, 130


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
    """Runs the command and exits."""
    sys.exit(run())


def run(arguments: Sequence[str] | None = None, app: typer.Typer | None = None) -> int:
    """Runs the command with the process's arguments, or with these; returns the exit code."""
    try:
        code = (app or build())(args=arguments, standalone_mode=False, prog_name="leadline")
    except LeadlineError as error:
        return _failed(error.message)
    except typer.TyperException as error:
        return _refused(error)
    except typer.Abort:
        return _failed("interrupted", INTERRUPTED)
    except OSError as error:
        return _failed(f"{error.filename or 'the system'}: {error.strerror or error}")
    if code == INTERRUPTED:
        return _failed("interrupted", INTERRUPTED)
    return code if isinstance(code, int) else DONE


def _refused(error: typer.TyperException) -> int:
    """Bad usage; a group that was called alone has shown its help already."""
    message = error.format_message()
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(message)
        return BAD_USAGE
    context = getattr(error, "ctx", None)
    hint = f"; see '{context.command_path} --help'" if context else ""
    return _failed(f"{message.rstrip('.')}{hint}", error.exit_code)


def _failed(message: str, code: int = FAILED) -> int:
    line = " ".join(message.split())
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"leadline: {line}", style="red", markup=False)
    return code
