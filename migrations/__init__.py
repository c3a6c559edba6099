"""Alembic environment and versions; run by `router.store.schema`."""
