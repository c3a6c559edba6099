"""Strategies, verifiers and readers of other packages come by their entry points."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.execution.answers import reader
from router.execution.calls import Options, Said
from router.execution.strategies import strategy
from router.execution.strategy import Task
from router.execution.verifiers import Checked, Verdict, Verifiers
from tests.kit.callers import TestCaller, completion

PLUGIN = """
from router.execution.answers import Reader
from router.execution.strategies.single import Single
from router.execution.verifiers import Verdict

class Shouting(Single):
    name = "shouting"

class Strict:
    async def verify(self, checked, caller):
        return Verdict(score=0.0, feedback="No.")

def is_four(answer, params):
    return answer == "4"

roman = Reader(read=lambda text: text.strip() or None, key=str.upper)
"""
ENTRY_POINTS = """
[leadline.strategies]
shouting = leadline_plugged:Shouting
[leadline.verifiers]
strict = leadline_plugged:Strict
is_four = leadline_plugged:is_four
[leadline.answers]
roman = leadline_plugged:roman
"""


@pytest.fixture(autouse=True)
def plugged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package that offers one of each."""
    described = tmp_path / "leadline_plugged-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: leadline-plugged\nVersion: 1.0\n"
    )
    (described / "entry_points.txt").write_text(ENTRY_POINTS)
    (tmp_path / "leadline_plugged.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)


async def test_what_other_packages_offer_is_found_by_its_name() -> None:
    task = Task(messages=({"role": "user", "content": "iv?"},), options=Options())
    caller = TestCaller(reply=lambda _: completion("4"))
    assert (await strategy("shouting").run(task, {}, caller)).extracted == "4"
    assert reader("roman").same("iv", "IV")
    checked = Checked(task=task, said=Said(text="4"), extracted="4")
    found = {}
    for name in ("strict", "is_four"):
        verifier = Verifiers().named(name)
        assert verifier is not None
        found[name] = await verifier.verify(checked, caller)
    assert found["strict"] == Verdict(score=0.0, feedback="No.")
    assert found["is_four"] == Verdict(passed=True, score=1.0)
