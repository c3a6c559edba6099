"""Keys of the instance: the decision key, and the public keys whose bundles are trusted."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Engine, func, select, update
from sqlalchemy.dialects.postgresql import insert

from router.errors import Conflict, MigrationNeeded
from router.store import audit
from router.store.engine import transaction
from router.store.tables import secrets, signing_keys


def decision_key(engine: Engine) -> bytes:
    """The 32 bytes under which this instance's decision ids are made; for the router's role."""
    query = select(secrets.c.value).where(secrets.c.name == "decision_key")
    with transaction(engine) as connection:
        found = connection.scalar(query)
    if found is None:
        raise MigrationNeeded
    return bytes(found)


class SigningKeys:
    """Ed25519 public keys of those who may sign bundles.

    Reading takes the router's role, writing the trainer's or the admin role.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def trusted(self) -> Mapping[str, bytes]:
        """Public keys by key id, without the revoked ones."""
        query = select(signing_keys.c.key_id, signing_keys.c.public_key)
        with transaction(self._engine) as connection:
            rows = connection.execute(query.where(signing_keys.c.revoked_at.is_(None))).all()
        return {key_id: bytes(public_key) for key_id, public_key in rows}

    def trust(self, key_id: str, public_key: bytes, *, actor: str) -> None:
        """Adds a key; a second call does nothing. Raises Conflict when the id is another's."""
        values = {"key_id": key_id, "public_key": public_key}
        query = select(signing_keys.c.public_key).where(signing_keys.c.key_id == key_id)
        with transaction(self._engine) as connection:
            added = connection.execute(insert(signing_keys).values(values).on_conflict_do_nothing())
            if bytes(connection.scalar(query) or b"") != public_key:
                raise Conflict(f"signing key {key_id!r} is there with another public key")
            if added.rowcount:
                audit.record(connection, actor=actor, action="signing_keys.trust", subject=key_id)

    def revoke(self, key_id: str, *, actor: str) -> None:
        """Takes the trust back for good; a second call, or an unknown id, does nothing."""
        with transaction(self._engine) as connection:
            revoked = connection.execute(
                update(signing_keys)
                .where(signing_keys.c.key_id == key_id, signing_keys.c.revoked_at.is_(None))
                .values(revoked_at=func.now())
            )
            if revoked.rowcount:
                audit.record(connection, actor=actor, action="signing_keys.revoke", subject=key_id)
