"""The error reasons are a closed set: what the code raises is what the proto documents."""

from __future__ import annotations

from router import errors
from router.v1 import errors_pb2

DOCUMENTED = {
    name.removeprefix("ERROR_REASON_")
    for name in errors_pb2.ErrorReason.keys()  # noqa: SIM118
}


def test_every_error_class_has_a_documented_reason() -> None:
    classes = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.LeadlineError)
    ]
    assert len(classes) > 10
    assert {each.reason for each in classes} <= DOCUMENTED


def test_an_error_without_a_message_says_its_docstring() -> None:
    assert "API key" in errors.Unauthenticated().message


def test_refused_rows_are_named_by_number() -> None:
    error = errors.BadRows([(3, "score 1.4 is not in [0, 1]"), (7, "query is empty")], total=9)
    assert "2 of 9 rows" in error.message
    assert "row 3: score 1.4" in error.message
    assert "row 7" in error.message
