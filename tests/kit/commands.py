"""The commands that training adds, run in this process as a user types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner, Result

from training.commands import groups


def run(*arguments: str | Path) -> Result:
    """What a command says, and how it ends."""
    app = typer.Typer()
    groups(app)
    return CliRunner().invoke(app, list(map(str, arguments)))


def answer(*arguments: str | Path) -> dict[str, Any]:
    """What a command answers to a machine. Raises the error that the command ends with."""
    result = run(*arguments, "--json")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found
