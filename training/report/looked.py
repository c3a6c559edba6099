"""What was looked at before a policy was let through, or not; its report tells of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from pydantic import TypeAdapter

from router.types import Arm
from training.drift.search import Drift
from training.fairness.verdict import Audit
from training.gate.contest import Contest
from training.gate.verdict import Verdict
from training.report.measured import Measured, measured
from training.scaling.values import ScalingLaws

LOOKED = "looked"
"""Where the gate's stage leaves what it looked at, besides its verdict."""

_AUDIT: TypeAdapter[Audit] = TypeAdapter(Audit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What was looked at before the policy was let through, or not; None where it was not.

    `incumbent` is the version that it stood against, 0 the static one; `unjudged` says why
    no gate could judge it.
    """

    verdict: Verdict | None = None
    unjudged: str = ""
    incumbent: int | None = None
    measured: Measured | None = None
    drift: Drift | None = None
    audit: Audit | None = None
    scaling: ScalingLaws | None = None
    stages_s: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        gate: Mapping[str, Any],
        looked: Mapping[str, Any],
        stages_s: Mapping[str, float] | None = None,
    ) -> Self:
        """Reads the gate's verdict as a policy's summary has it, and what the stages left."""
        measured, audit = looked.get("measured"), looked.get("audit")
        drift, scaling = looked.get("drift"), looked.get("scaling")
        why = gate.get("why", "")
        return cls(
            verdict=Verdict.from_mapping(gate) if gate and not why else None,
            unjudged=why,
            incumbent=gate.get("incumbent"),
            measured=None if measured is None else Measured.from_mapping(measured),
            audit=None if audit is None else _AUDIT.validate_python(audit),
            drift=None if drift is None else Drift.from_mapping(drift),
            scaling=None if scaling is None else ScalingLaws.from_mapping(scaling),
            stages_s=stages_s or {},
        )


def looked_at(contest: Contest, arms: Sequence[Arm], audit: Audit | None) -> dict[str, Any]:
    """What the gate looked at, as plain JSON values once written."""
    return {
        "measured": measured(contest, arms).to_mapping(),
        "audit": None if audit is None else audit.to_mapping(),
    }
