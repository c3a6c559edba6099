"""The report after a training run: what changed, whether it reaches traffic, and why.

One HTML file that needs nothing else. It names models, arms, slices, and topics by words
that many people share, and holds no text of any query.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from uuid import UUID

from router.bundle.manifest import Manifest
from router.commands.output import written
from router.types import Arm, Model, PolicyRecord, PolicyState
from training.drift.search import Drift
from training.fairness.verdict import Audit
from training.gate.verdict import Verdict
from training.report import sections
from training.report.changed import changed, spent
from training.report.headline import headline, notices, tiles
from training.report.measured import Measured
from training.report.page import Page, Section, html
from training.scaling.values import ScalingLaws

REPORTS = "reports"
"""The directory of reports in the state directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A policy that the report tells of, with the summary of its training.

    `versions` names what it was made with.
    """

    version: int
    summary: Mapping[str, Any]
    arms: tuple[Arm, ...]
    models: tuple[Model, ...]
    bundle_sha256: str
    versions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, record: PolicyRecord, manifest: Manifest) -> Self:
        """A registered policy."""
        return cls(
            version=record.version,
            summary=record.summary,
            arms=manifest.arms,
            models=manifest.models,
            bundle_sha256=record.bundle_sha256,
            versions={
                "lightgbm": manifest.lightgbm_version,
                f"embedder {manifest.embedder.name}": manifest.embedder.digest,
            },
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a training run brought; what it did not look at is None and left out.

    `unjudged` says why no gate could judge it. `state` is the candidate's after the run,
    `share` that of the traffic which it decides as a canary. `versions` names what it was
    made with, `stages_s` how long each stage took.
    """

    run_id: UUID
    started_at: datetime
    finished_at: datetime
    candidate: Side
    state: PolicyState
    share: float | None = None
    incumbent: Side | None = None
    verdict: Verdict | None = None
    unjudged: str = ""
    measured: Measured | None = None
    drift: Drift | None = None
    audit: Audit | None = None
    scaling: ScalingLaws | None = None
    seed: int | None = None
    watermark: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    stages_s: Mapping[str, float] = field(default_factory=dict)


def report(run: Run) -> str:
    """The report as HTML; the same run gives the same bytes."""
    return html(
        Page(
            title=f"Leadline training run, {_at(run.finished_at)}",
            headline=headline(run),
            lines=tuple(notices(run)),
            tiles=tuple(tiles(run)),
            sections=tuple(each for each in _sections(run) if each is not None),
        )
    )


def place(state_dir: Path, run_id: UUID) -> Path:
    """Where the report of a run is kept."""
    return state_dir / REPORTS / f"run-{run_id}.html"


def keep(run: Run, state_dir: Path) -> Path:
    """Writes the report to its place, whole or not at all; says where. May be called again."""
    path = place(state_dir, run.run_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    with written(path) as file:
        file.write(report(run).encode())
    return path


def _sections(run: Run) -> Iterator[Section | None]:
    if run.verdict is not None:
        yield sections.verdict(run.verdict)
    yield changed(run.candidate, run.incumbent)
    if run.drift is not None:
        yield sections.moved(run.drift)
    if run.measured is not None:
        yield sections.frontiers(run.measured)
    yield spent(run.candidate, run.incumbent)
    if run.measured is not None:
        yield sections.calibration(run.measured)
    if run.audit is not None:
        rival = "best constant" if run.incumbent is None else "incumbent"
        yield sections.fairness(run.audit, rival)
    if run.scaling is not None:
        yield sections.scaling(run.scaling)
    if "outcomes" in run.candidate.summary:
        yield sections.outcomes(run.candidate.summary["outcomes"])
    yield sections.pairs("Provenance", list(_provenance(run)))


def _provenance(run: Run) -> Iterator[tuple[str, str]]:
    """What makes the run again: the same inputs give the same policy."""
    summary = run.candidate.summary
    yield "run", str(run.run_id)
    yield "candidate", f"policy {run.candidate.version}"
    yield "its bundle's sha256", run.candidate.bundle_sha256
    if run.incumbent is not None:
        yield "incumbent", f"policy {run.incumbent.version}"
        yield "the incumbent's bundle's sha256", run.incumbent.bundle_sha256
    found: Sequence[tuple[str, object]] = (
        ("dataset digest", summary.get("dataset_digest")),
        ("newest interaction", summary.get("watermark")),
        ("watermark in the order of arrival", run.watermark),
        ("seed", summary.get("seed") if run.seed is None else run.seed),
    )
    yield from ((name, str(value)) for name, value in found if value is not None)
    yield "started", _at(run.started_at)
    yield "finished", _at(run.finished_at)
    yield from ((f"stage {name}", f"{took:.1f} s") for name, took in run.stages_s.items())
    yield from ((f"version of {name}", version) for name, version in run.versions.items())


def _at(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
