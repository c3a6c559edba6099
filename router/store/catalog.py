"""The catalog in Postgres."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, select
from sqlalchemy.dialects.postgresql import insert

from router.errors import NotFound
from router.store import audit
from router.store.engine import transaction
from router.store.seams import Topic
from router.store.tables import arms, audit_log, models, revisions
from router.types import Arm, Capability, Catalog, Model, Thinking, check_arm


class PostgresCatalog:
    """The CatalogStore seam; writing takes the admin role, reading any."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def read(self) -> Catalog:
        """As the seam says. The revision is read first: a later change shows as a newer one."""
        with transaction(self._engine) as connection:
            revision = _revision(connection)
            known = [_model(row) for row in connection.execute(select(models)).mappings()]
            enabled = select(arms).where(arms.c.enabled)
            found = [_arm(row) for row in connection.execute(enabled).mappings()]
        return arrange(known, found, revision)

    def at(self, when: datetime) -> Catalog:
        """The catalog as it stood at a time, out of the audit log; its revision is 0."""
        wanted = audit_log.c.action.in_(("catalog.put_model", "catalog.put_arm"))
        query = (
            select(audit_log.c.action, audit_log.c.subject, audit_log.c.details)
            .where(wanted, audit_log.c.at <= when)
            .order_by(audit_log.c.entry_id)
        )
        with transaction(self._engine) as connection:
            entries = connection.execute(query).all()
        known = {each.subject: each.details for each in entries if each.action.endswith("model")}
        found = {each.subject: each.details for each in entries if each.action.endswith("arm")}
        models = [_model(_fields(row)) for row in known.values()]
        arms = [_arm(row) for row in found.values() if row["enabled"]]
        return arrange(models, arms, 0)

    def put_model(self, model: Model, *, actor: str) -> int:
        """As the seam says."""
        values = {**asdict(model), "capabilities": sorted(model.capabilities)}
        with transaction(self._engine) as connection:
            connection.execute(
                insert(models)
                .values(values)
                .on_conflict_do_update(index_elements=["name"], set_=values)
            )
            audit.record(
                connection,
                actor=actor,
                action="catalog.put_model",
                subject=model.name,
                details=values,
            )
            return _revision(connection)

    def put_arm(self, arm: Arm, *, enabled: bool, actor: str) -> int:
        """As the seam says."""
        if enabled:
            check_arm(arm)
        values = {
            "key": arm.key,
            "model": arm.model,
            "strategy": arm.strategy,
            "params": dict(arm.params),
            "enabled": enabled,
        }
        with transaction(self._engine) as connection:
            if not connection.scalar(select(models.c.name).where(models.c.name == arm.model)):
                raise model_not_found(arm.model)
            connection.execute(
                insert(arms)
                .values(values)
                .on_conflict_do_update(index_elements=["key"], set_=values)
            )
            audit.record(
                connection, actor=actor, action="catalog.put_arm", subject=arm.key, details=values
            )
            return _revision(connection)


def arrange(models: list[Model], arms: list[Arm], revision: int) -> Catalog:
    """The catalog in its order: by tier, then name; arms of disabled models left out."""
    ordered = sorted(models, key=lambda model: (model.tier, model.name))
    place = {model.name: at for at, model in enumerate(ordered) if model.enabled}
    usable = [arm for arm in arms if arm.model in place]
    usable.sort(key=lambda arm: (place[arm.model], arm.key))
    return Catalog(models=tuple(ordered), arms=tuple(usable), revision=revision)


def model_not_found(name: str) -> NotFound:
    """The error for an arm of a model that the catalog does not have."""
    return NotFound(f"model {name!r} is not in the catalog; put it first", reason="MODEL_NOT_FOUND")


def _revision(connection: Connection) -> int:
    found = connection.scalar(
        select(revisions.c.revision).where(revisions.c.topic == Topic.CATALOG.value)
    )
    return int(found or 0)


def _model(row: Any) -> Model:
    capabilities = frozenset(Capability(name) for name in row["capabilities"])
    thinking = Thinking(row["thinking"]) if row.get("thinking") else None
    return Model(**{**row, "capabilities": capabilities, "thinking": thinking})


def _fields(row: Mapping[str, Any]) -> dict[str, Any]:
    """The model's fields among those of an entry, which another version may have written."""
    return {item.name: row[item.name] for item in fields(Model) if item.name in row}


def _arm(row: Any) -> Arm:
    return Arm(model=row["model"], strategy=row["strategy"], params=row["params"])
