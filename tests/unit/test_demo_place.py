from __future__ import annotations

from pathlib import Path

import pytest

from router.errors import ConfigurationError
from router.simulation.demo_place import EARLIER, prepared


def test_a_directory_that_holds_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigurationError, match="name a new directory"), prepared(tmp_path):
        pytest.fail("it was taken")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_in_the_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("a file")
    with pytest.raises(ConfigurationError, match="holds something else"):
        prepared(tmp_path / "demo").__enter__()


def test_an_earlier_run_is_put_aside_and_nothing_of_it_is_lost(tmp_path: Path) -> None:
    for run in ("first", "second", "third"):
        with prepared(tmp_path / "demo") as place:
            assert list(place.logs.iterdir()) == []
            (place.logs / "server.log").write_text(run)
            place.report.write_text(run)
    earlier = tmp_path / "demo" / EARLIER
    assert (earlier / "1" / "report.html").read_text() == "first"
    assert (earlier / "2" / "logs" / "server.log").read_text() == "second"


def test_what_is_not_of_a_run_stays_where_it_is(tmp_path: Path) -> None:
    with prepared(tmp_path) as place:
        place.report.write_text("first")
    (tmp_path / "notes.txt").write_text("mine")
    with prepared(tmp_path):
        assert (tmp_path / "notes.txt").read_text() == "mine"


def test_two_demos_never_share_a_directory(tmp_path: Path) -> None:
    with (
        prepared(tmp_path),
        pytest.raises(ConfigurationError, match="is running"),
        prepared(tmp_path),
    ):
        pytest.fail("both hold it")
