"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.errors import ConfigurationError, InvalidInput

if TYPE_CHECKING:
    from router.settings import Settings
    from router.slo import Slo

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
Dsn = Annotated[
    str,
    typer.Option(
        "--dsn",
        help="Postgres to use; default LEADLINE_DSN, else the embedded one.",
        show_default=False,
    ),
]
Address = Annotated[
    str,
    typer.Option(
        "--address",
        help="Go through the server there (host:port), with the key in LEADLINE_API_KEY.",
        show_default=False,
    ),
]
TenantName = Annotated[str, typer.Option("--tenant", help="Whose.")]
Comment = Annotated[str, typer.Option("--comment", help="Why, for the audit log.")]
PolicyPath = Annotated[
    Path, typer.Option("--policy", help="The bundle: a directory or an archive.", exists=True)
]
SloText = Annotated[
    str,
    typer.Option(
        "--slo",
        help='JSON, as {"min_accuracy": 0.8}, an array of such, or @FILE that holds it.',
    ),
]
TrustedKeys = Annotated[
    list[str] | None,
    typer.Option("--trusted-key", help="Hex public key to trust, besides our own; may repeat."),
]
Out = Annotated[
    Path, typer.Option("--out", help="JSONL to write, whole or not at all; - is stdout.")
]


@contextmanager
def usage(option: str) -> Iterator[None]:
    """Makes a bad value of an option bad usage, under the option's name."""
    try:
        yield
    except (InvalidInput, ValueError) as error:
        text = error.message if isinstance(error, InvalidInput) else str(error)
        raise typer.BadParameter(text, param_hint=option) from None


def settings(**given: Any) -> Settings:
    """The settings, with what was given on the command line above the environment.

    Raises ConfigurationError that names the setting which is wrong.
    """
    from pydantic import ValidationError  # noqa: PLC0415

    from router.settings import Settings  # noqa: PLC0415

    try:
        return Settings(**{name: value for name, value in given.items() if value not in (None, "")})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = "_".join(map(str, first["loc"])).upper()
        raise ConfigurationError(f"LEADLINE_{name}: {first['msg']}") from None


def duration(text: str) -> timedelta:
    """How long "90s", "30m", "24h", "7d" or "2w" is. Raises BadParameter."""
    found = re.fullmatch(r"(\d{1,9})([smhdw])", text.strip())
    if found is None:
        raise typer.BadParameter(
            f"{text!r:.40} is no duration; write it as 30m, 24h or 7d", param_hint="--since"
        )
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def time_of_day(text: str, option: str) -> tuple[int, int]:
    """The hour and minute of a time as "03:00". Raises BadParameter under the option's name."""
    found = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", text.strip())
    if found is None:
        raise typer.BadParameter(f"{text!r:.40} is no time; write it as 03:00", param_hint=option)
    return int(found[1]), int(found[2])


_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def slos(text: str) -> tuple[tuple[Slo, ...], bool]:
    """The slos of a --slo option, and whether they came as an array."""
    import json  # noqa: PLC0415

    from router.slo import Slo  # noqa: PLC0415

    with usage("--slo"):
        source = Path(text[1:]).read_text() if text.startswith("@") else text
        value = json.loads(source)
        if not isinstance(value, list):
            return (Slo.from_mapping(value),), False
        if not value:
            raise InvalidInput("an array needs at least one slo")
        return tuple(map(Slo.from_mapping, value)), True
