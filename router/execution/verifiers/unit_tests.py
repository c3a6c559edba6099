"""Unit tests as verifier: code is right as far as its tests pass."""

from __future__ import annotations

from dataclasses import replace

from router.errors import InvalidInput
from router.execution.strategy import Caller
from router.execution.verifiers.confined import Limits, run_confined
from router.execution.verifiers.verdict import CANNOT_TELL, Checked, Verdict


class UnitTestVerifier:
    """Runs Python code and the tests in `verifier_params["tests"]` in a process with bounds.

    Tests are assertions and functions named test_*; the score is the share that passes. A
    run that dies or hangs has failed. See `confined` for what keeps it in.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()

    async def verify(self, checked: Checked, caller: Caller) -> Verdict:
        """As Verifier says. Raises InvalidInput without tests."""
        tests = checked.params.get("tests")
        if not isinstance(tests, str) or not tests.strip():
            raise InvalidInput("has no text of 'tests' to run", field="verifier_params")
        seconds = min(self._limits.seconds, caller.left().seconds)
        job = {"kind": "tests", "code": checked.text, "tests": tests}
        report = await run_confined(job, replace(self._limits, seconds=seconds))
        if report is None:
            feedback = "The code ended before its tests did: it took too long, or ended itself."
            return Verdict(score=0.0, feedback=feedback)
        if "passed" not in report:
            return CANNOT_TELL
        ran, passed = int(report["ran"]), int(report["passed"])
        feedback = f"{ran - passed} of {ran} tests fail. {report['why']}".strip()
        return Verdict(passed=0 < ran == passed, score=passed / max(ran, 1), feedback=feedback)
