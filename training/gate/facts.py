"""What the gate is told of a candidate: its slos, what it learnt from, its bundle, its speed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from training.fairness.verdict import Audit
from training.gate.verdict import Condition

MOST_SLOWER = 1.5
"""How many times the incumbent's time a decision may take."""

ALWAYS_FAST_S = 0.002
"""A decision that takes no longer is fast enough whatever the incumbent takes."""

FAST_ENOUGH_S = 0.020
"""The most that a decision may take where there is no incumbent."""

_MOST_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Promised:
    """Whether an slo can be certified under the incumbent and under the candidate."""

    tenant: str
    slo: str
    before: bool
    after: bool
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """What the candidate learnt from; a watermark is the newest time in what was learnt from.

    `brier` is what training foretold, on `brier_rows` outcomes that the models had not seen;
    None where it did not. `seen` counts held-out interactions whose text the candidate has
    learnt from.
    """

    watermark: datetime | None = None
    incumbent_watermark: datetime | None = None
    brier: float | None = None
    brier_rows: int = 0
    seen: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Whether the bundle verifies and predicts what training saw it predict, and why not."""

    verified: bool
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The median seconds of a decision, of both in the same run, on the same queries."""

    candidate_s: float
    incumbent_s: float | None = None


def certifiable(slos: Sequence[Promised]) -> Condition:
    """Whether each slo that can be certified under the incumbent can be under the candidate."""
    lost = [each for each in slos if each.before and not each.after]
    told = (f"{each.slo} of {each.tenant} ({each.why})" for each in lost[:_MOST_NAMED])
    return Condition(
        name="slos certifiable",
        held=not lost,
        measured={
            "slos": len(slos),
            "before": sum(each.before for each in slos),
            "after": sum(each.after for each in slos),
            "lost": len(lost),
        },
        must="every slo that can be certified now can be under the candidate",
        why=f"no longer certifiable: {', '.join(told)}" if lost else "",
    )


def newer(learnt: Learnt) -> Condition:
    """Whether the candidate learnt from a log at least as new as the incumbent's."""
    own, before = learnt.watermark, learnt.incumbent_watermark
    stale = before is not None and (own is None or own < before)
    return Condition(
        name="not stale",
        held=not stale,
        measured={
            "watermark": None if own is None else own.isoformat(),
            "incumbent_watermark": None if before is None else before.isoformat(),
        },
        must="learnt from a log at least as new as the incumbent's",
        why="it learnt from an older log than the incumbent; train it anew" if stale else "",
    )


def unseen(learnt: Learnt) -> Condition:
    """Whether the candidate learnt from none of the held-out queries."""
    return Condition(
        name="held out",
        held=learnt.seen == 0,
        measured={"seen": learnt.seen},
        must="no held-out query is among those that the candidate learnt from",
        why="it learnt from held-out queries; train it without them" if learnt.seen else "",
    )


def fair(audit: Audit) -> Condition:
    """Whether the fairness audit lets it pass, or a person did in spite of it."""
    override = audit.override
    return Condition(
        name="fairness",
        held=not audit.blocks,
        measured={
            "slices": len(audit.slices),
            "short": len(audit.short),
            "too_few_to_tell": len(audit.untold),
            "overridden_by": None if override is None else f"{override.who}: {override.why}",
        },
        must="no slice falls short beyond its bound, or a person said why it may",
        why="; ".join(audit.reasons[:_MOST_NAMED]) if audit.blocks else "",
    )


def bundle_verifies(bundle: Bundle) -> Condition:
    """Whether the bundle is sound."""
    return Condition(
        name="bundle",
        held=bundle.verified,
        measured={"verified": str(bundle.verified).lower()},
        must="its signature, files and golden rows are right",
        why="" if bundle.verified else bundle.why or "it does not verify",
    )


def decides_fast(timing: Timing, unanswered: int) -> Condition:
    """Whether it has a decision for whatever the incumbent has one for, and in time."""
    before = timing.incumbent_s
    most = FAST_ENOUGH_S if before is None else max(MOST_SLOWER * before, ALWAYS_FAST_S)
    slow = not timing.candidate_s <= most
    told = [f"it takes {1e3 * timing.candidate_s:.2f} ms for a decision"] if slow else []
    told += [f"{unanswered:,} queries are left without an arm"] if unanswered else []
    return Condition(
        name="decides",
        held=not told,
        measured={
            "seconds": timing.candidate_s,
            "incumbent_seconds": before,
            "unanswered": unanswered,
        },
        must=f"within {1e3 * most:.2f} ms, whatever the incumbent decides",
        why=" and ".join(told),
    )
