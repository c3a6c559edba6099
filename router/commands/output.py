"""What the commands print: tables for people, JSON for machines, progress on stderr."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from rich.progress import Progress


def to_json(value: Any) -> bytes:
    """The value as JSON; values of `router.types` are objects of their fields."""
    import orjson  # noqa: PLC0415

    option = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    return orjson.dumps(value, default=_plain, option=option)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, frozenset | set):
        return sorted(value)
    raise TypeError(type(value).__name__)


def show(
    value: Any,
    rows: Sequence[Sequence[Any]],
    columns: Sequence[str],
    *,
    as_json: bool,
    empty: str = "none",
) -> None:
    """Prints the value as JSON, or its rows as a table."""
    if as_json:
        print_json(value)
    elif not rows:
        say(empty)
    else:
        table(rows, columns)


def table(rows: Sequence[Sequence[Any]], columns: Sequence[str]) -> None:
    """Prints rows under their columns' names."""
    from rich import box  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    drawn = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        drawn.add_row(*map(_cell, row))
    width = None if sys.stdout.isatty() else 200
    Console(highlight=False, markup=False, width=width).print(drawn)


def _cell(value: Any) -> str:
    from datetime import datetime  # noqa: PLC0415

    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def print_json(value: Any) -> None:
    """Prints one line of JSON on stdout."""
    sys.stdout.write(to_json(value).decode() + "\n")


def say(text: str) -> None:
    """Prints a line on stdout."""
    sys.stdout.write(text + "\n")


@contextmanager
def progress() -> Iterator[Progress]:
    """A progress display on stderr; nothing where that is no terminal."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn  # noqa: PLC0415

    console = Console(stderr=True)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as shown:
        yield shown


@contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """A file that takes its place when it is whole, or never; `-` is stdout."""
    if str(path) == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        Path(aside).chmod(0o666 & ~_umask())
        Path(aside).replace(path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
