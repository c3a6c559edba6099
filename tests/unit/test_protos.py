"""The generated code is what the protos say, and every element of them is commented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.kit.protos import ROOT, generate

PROTOS = sorted((ROOT / "protos/router/v1").glob("*.proto"))


def test_generated_code_matches_the_protos(tmp_path: Path) -> None:
    generate(tmp_path)
    fresh = {path.name: path.read_text() for path in (tmp_path / "router/v1").iterdir()}
    committed = {
        path.name: path.read_text()
        for path in (ROOT / "router/v1").iterdir()
        if path.suffix in {".py", ".pyi"} and path.name != "__init__.py"
    }
    assert fresh == committed, "run 'make protos'"


@pytest.mark.parametrize("proto", PROTOS, ids=lambda path: path.stem)
def test_every_element_of_a_proto_is_commented(proto: Path) -> None:
    element = re.compile(
        r"^\s*(message|enum|service|rpc|oneof|[\w.<>, ]+ \w+ = \d+;|[A-Z_]+ = \d+;)"
    )
    before = ""
    for number, line in enumerate(proto.read_text().splitlines(), start=1):
        if element.match(line) and not line.lstrip().startswith(("//", "syntax")):
            assert before.lstrip().startswith("//"), f"{proto.name}:{number} has no comment"
        before = line


@pytest.mark.parametrize("proto", PROTOS, ids=lambda path: path.stem)
def test_every_enum_starts_unspecified(proto: Path) -> None:
    for body in re.findall(r"enum \w+ \{(.*?)\n\}", proto.read_text(), flags=re.DOTALL):
        first = re.search(r"^\s+([A-Z_]+) = (\d+);", body, flags=re.MULTILINE)
        assert first is not None
        assert first[1].endswith("_UNSPECIFIED")
        assert first[2] == "0"
