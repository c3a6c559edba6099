"""leadline policies explain: explanations as people and machines read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from router.bundle.signing import trusted_keys
from router.commands import lines
from router.commands.database import Database, database
from router.commands.options import settings
from router.commands.output import print_json, say, table
from router.errors import Infeasible
from router.explanation import Contribution, ExplainedArm, Explanation
from router.offline import Asked, Policy
from router.slo import Slo
from router.types import Catalog, Decision


def registered(version: int, keys: Sequence[str], dsn: str) -> Policy:
    """A policy out of the registry. Raises NotFound or BundleRefused."""
    from router.store.catalog import PostgresCatalog  # noqa: PLC0415

    with database(dsn) as opened:
        return of(opened, version, PostgresCatalog(opened.admin).read(), keys)


def of(opened: Database, version: int, catalog: Catalog, keys: Sequence[str] = ()) -> Policy:
    """A registered policy, bound to a catalog. Raises NotFound or BundleRefused."""
    from router.store.keys import SigningKeys  # noqa: PLC0415
    from router.store.registry import PostgresRegistry  # noqa: PLC0415

    return Policy.registered(
        PostgresRegistry(opened.admin).bundle(version),
        version=version,
        catalog=catalog,
        trusted={**SigningKeys(opened.router).trusted(), **trusted_keys(keys)},
        settings=settings(),
    )


def explain_one(policy: Policy, asked: Asked, slo: Slo, arm: str | None, *, as_json: bool) -> None:
    """Prints what moved the choice for a query. Raises Infeasible, or NotFound for the arm."""
    decision, explanation = policy.explain(asked.text, slo=slo, query_id=asked.query_id, arm=arm)
    if as_json:
        print_json(_plain(decision, explanation))
    else:
        show(decision, explanation)


def explain_file(policy: Policy, path: Path, slo: Slo, arm: str | None, *, as_json: bool) -> None:
    """Prints what moved the choice for each query of a file, one line of JSON each.

    A query for which no arm may be run has the reason instead.
    """
    with path.open("rb") as source:
        for asked in lines.asked(source):
            try:
                found = policy.explain(asked.text, slo=slo, query_id=asked.query_id, arm=arm)
                line = _plain(*found)
            except Infeasible as error:
                found, line = None, {"arm": None, "reason": error.message, "explanation": None}
            if as_json:
                print_json({"query_id": asked.query_id} | line)
                continue
            say(f"query {asked.query_id}")
            if found is None:
                say(line["reason"])
            else:
                show(*found)


def _plain(decision: Decision, explanation: Explanation) -> dict[str, Any]:
    return {
        "arm": lines.plain_arm(decision.arm),
        "reason": decision.choice.reason,
        "slo_status": decision.choice.slo_status,
        "policy_version": decision.policy_version,
        "explanation": asdict(explanation),
    }


def show(decision: Decision, explanation: Explanation) -> None:
    """Prints an explained decision as tables."""
    say(f"{decision.arm.key}: {decision.choice.reason}")
    if explanation.note:
        say(explanation.note)
    _choice(explanation)
    if all(arm.terms is not None for arm in explanation.arms):
        _accuracy(explanation.arms)
        _neighbours(explanation.arms)
    if explanation.left_out:
        rows = [(each.limit, len(each.arms), _some(each.arms)) for each in explanation.left_out]
        table(rows, ("limit", "leaves out", "arms"))


def _choice(explanation: Explanation) -> None:
    value = explanation.value_usd
    ranked = "-cost, USD" if value is None else f"{value:.4g} USD x accuracy - cost"
    if explanation.planned:
        ranked += ", planned ahead"
    rows = [
        (each.arm, f"{each.accuracy:.3f}", each.cost_usd, each.utility_usd, _yes(each.feasible))
        for each in explanation.arms
    ]
    table(rows, ("arm", "accuracy", "cost, USD", ranked, "feasible"))


def _accuracy(arms: tuple[ExplainedArm, ...]) -> None:
    """The log-odds of a correct answer, term by term, a column for each arm."""
    columns = [_terms(arm) for arm in arms]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [(name, *(column.get(name, "") for column in columns)) for name in names]
    last = ("other features of the trees", "log-odds", "calibrated to", "accuracy")
    rows.sort(key=lambda row: last.index(row[0]) if row[0] in last else -1)
    table(rows, ("adds to the log-odds", *(arm.arm for arm in arms)))


def _terms(arm: ExplainedArm) -> Mapping[str, str]:
    terms = arm.terms
    if terms is None:
        return {}
    return {
        "the arm's mean": f"{terms.mean:+.3f}",
        **_added(terms.signals, ""),
        "trees on average": f"{terms.trees_expected:+.3f}",
        **_added(terms.trees, "trees: "),
        "other features of the trees": f"{terms.trees_other:+.3f}",
        "log-odds": f"{terms.log_odds:+.3f}",
        "calibrated to": f"{terms.probability:.3f}",
        "accuracy": f"{arm.accuracy:.3f}",
    }


def _added(contributions: Iterable[Contribution], head: str) -> dict[str, str]:
    return {
        head + each.name: f"{each.log_odds:+.3f}"
        + ("" if each.value is None else f"  ({each.value:.4g})")
        for each in contributions
    }


def _neighbours(arms: tuple[ExplainedArm, ...]) -> None:
    rows = [
        (
            arm.arm,
            each.landmark,
            f"{each.similarity:.3f}",
            each.rows,
            f"{each.accuracy:.3f}",
            each.all_rows,
            f"{each.all_accuracy:.3f}",
        )
        for arm in arms
        if arm.terms is not None
        for each in arm.terms.neighbours
    ]
    names = (
        "arm",
        "landmark",
        "similarity",
        "rows",
        "accuracy",
        "all arms' rows",
        "their accuracy",
    )
    if rows:
        table(rows, names)
    else:
        say("no row of these arms lies near the query")


def _some(keys: tuple[str, ...], most: int = 4) -> str:
    return ", ".join(keys[:most]) + (f" and {len(keys) - most} more" if len(keys) > most else "")


def _yes(value: object) -> str:
    return "yes" if value else "no"
