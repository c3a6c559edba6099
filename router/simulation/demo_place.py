"""The demo's directory: an earlier run is put aside, and nothing that is not ours is touched."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from router.errors import ConfigurationError, LeadlineError

MARK = ".leadline-demo"
EARLIER = "earlier"
_MARK_TEXT = "Made by 'leadline demo'; the directory may be deleted whole.\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one run of the demo keeps what it makes."""

    directory: Path

    @property
    def logs(self) -> Path:
        """The logs of every process."""
        return self.directory / "logs"

    @property
    def state(self) -> Path:
        """The server's state directory."""
        return self.directory / "state"

    @property
    def postgres(self) -> Path:
        """The embedded Postgres in it."""
        return self.state / "postgres"

    @property
    def report(self) -> Path:
        """The report."""
        return self.directory / "report.html"

    @property
    def result(self) -> Path:
        """The report's figures as JSON."""
        return self.directory / "result.json"

    @property
    def parts(self) -> tuple[Path, ...]:
        """All that a run makes."""
        return self.logs, self.state, self.report, self.result


@contextmanager
def prepared(directory: Path) -> Iterator[Place]:
    """An empty place in the directory, held for this run alone.

    What an earlier run left goes to `earlier/<number>`. Raises ConfigurationError when the
    directory holds something else, or when another demo runs in it.
    """
    place = Place(directory=directory.expanduser().resolve())
    _claim(place.directory)
    with (place.directory / MARK).open("a") as mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigurationError(
                f"a demo is running in {directory}; wait for its end or name another --dir"
            ) from None
        _put_aside(place)
        place.logs.mkdir()
        place.state.mkdir()
        yield place


def _claim(directory: Path) -> None:
    mark = directory / MARK
    if mark.is_file():
        return
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ConfigurationError(
            f"{directory} holds something else than a demo; name a new directory with --dir"
        )
    directory.mkdir(parents=True, exist_ok=True)
    mark.write_text(_MARK_TEXT)


def _put_aside(place: Place) -> None:
    left = [part for part in place.parts if part.exists()]
    if not left:
        return
    _stop_postgres(place)
    earlier = place.directory / EARLIER
    number = 1
    while (earlier / str(number)).exists():
        number += 1
    (earlier / str(number)).mkdir(parents=True)
    for part in left:
        part.rename(earlier / str(number) / part.name)


def _stop_postgres(place: Place) -> None:
    """Stops a Postgres that an earlier run could not."""
    from router.store.embedded import EmbeddedPostgres  # noqa: PLC0415 (rarely needed)

    if (place.postgres / "postmaster.pid").exists():
        with contextlib.suppress(LeadlineError):
            EmbeddedPostgres(place.postgres).stop()
