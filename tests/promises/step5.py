"""Step 5: strategies that run: executor and gateway."""

from __future__ import annotations

from tests.promises import Measured, execution, promise


@promise(
    step=5,
    name="Faults of providers",
    must="429, 500, garbage, half a stream, a hang, a close, once and lasting, whole and streamed: "
    "each with the documented result, within the deadline, cost accounted, nothing lost",
)
def faults() -> Measured:
    """By Execute, before the simulated provider."""
    return execution.faults()


@promise(
    step=5,
    name="Leaving stops the spending",
    must="whoever cancels Execute is gone from the provider within 100 ms, 95 times of a hundred",
)
def leaving() -> Measured:
    """While a model writes, whole and streamed."""
    return execution.leaving()
