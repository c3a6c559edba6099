"""Adds how a model is told how much to think; null for one that is not told."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """May run twice."""
    op.execute("set local role leadline_owner")
    op.execute("alter table models add column if not exists thinking text")
    op.execute("reset role")
